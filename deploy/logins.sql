-- A login for each role of a database, with the password of an environment variable; run it after `millrace setup`, as
-- often as you like. It needs psql 14 or later and a user that may create roles:
--
--     INGEST_PASSWORD=… STREAMS_PASSWORD=… GATEWAY_PASSWORD=… AUDIT_PASSWORD=… OPERATOR_PASSWORD=… \
--         psql -X -f deploy/logins.sql "postgresql://owner@host:5432/millrace"
--
-- The logins are named millrace_ingest_login and so on, after the database. The passwords are part of a statement: a server
-- with log_statement = ddl writes them to its log.

\set ON_ERROR_STOP on
\getenv ingest INGEST_PASSWORD
\getenv streams STREAMS_PASSWORD
\getenv gateway GATEWAY_PASSWORD
\getenv audit AUDIT_PASSWORD
\getenv operator OPERATOR_PASSWORD
SET password_encryption = 'scram-sha-256';

BEGIN;
SELECT format('CREATE ROLE %I LOGIN IN ROLE %I',
              current_database() || '_' || role || '_login', current_database() || '_' || role)
FROM unnest(ARRAY['ingest', 'streams', 'gateway', 'audit', 'operator']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_database() || '_' || role || '_login')
\gexec

SELECT format('ALTER ROLE %I PASSWORD %L', current_database() || '_' || role || '_login', password)
FROM (VALUES ('ingest', :'ingest'), ('streams', :'streams'), ('gateway', :'gateway'), ('audit', :'audit'),
             ('operator', :'operator')) AS login (role, password)
\gexec
COMMIT;
