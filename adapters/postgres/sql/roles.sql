-- name: alone
SELECT pg_advisory_xact_lock(%(key)s);

-- name: schema
SELECT current_schema();

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
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S') AND pg_has_role(relowner, 'USAGE')
UNION ALL
SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc
WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'millrace\_%%' AND pg_has_role(proowner, 'USAGE')
ORDER BY 1, 2;

-- name: revoke
REVOKE ALL ON {kind} {name} FROM {roles};

-- name: extensions
-- The schemas of the extensions in use, other than ours, and the roles that may not look into them.
SELECT n.nspname, has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION'), array_agg(DISTINCT r.rolname::text)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
CROSS JOIN pg_roles r
WHERE e.extname = 'pg_trgm' AND n.nspname <> current_schema() AND r.rolname = ANY(%(names)s)
  AND NOT has_schema_privilege(r.rolname, n.oid, 'USAGE')
GROUP BY n.oid, n.nspname;

-- name: let_use
GRANT USAGE ON SCHEMA {schema} TO {roles};
