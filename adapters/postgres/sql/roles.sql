-- name: alone
SELECT pg_advisory_xact_lock(%(key)s);

-- name: known
SELECT rolname FROM pg_roles WHERE rolname = ANY(%(names)s);

-- name: may_create
SELECT current_user, (rolsuper OR rolcreaterole) FROM pg_roles WHERE rolname = current_user;

-- name: create
CREATE ROLE {role} NOLOGIN;

-- name: create_login
CREATE ROLE {login} LOGIN;

-- name: set_login
ALTER ROLE {login} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS {replication} PASSWORD {password};

-- name: join
GRANT {role} TO {login};

-- name: owned
-- What the owner of the schema has there: a table or a function of somebody else is left alone.
SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S') AND pg_has_role(relowner, 'USAGE')
UNION ALL
SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'millrace\_%%' AND pg_has_role(proowner, 'USAGE')
ORDER BY 1, 2;

-- name: revoke
REVOKE ALL ON {kind} {name} FROM {roles};
