-- The login by which the replica follows, with the password of the environment variable REPLICATION_PASSWORD. It needs a
-- superuser, or since version 16 a user with CREATEROLE and REPLICATION.

\set ON_ERROR_STOP on
\getenv replication REPLICATION_PASSWORD
SET password_encryption = 'scram-sha-256';

SELECT 'CREATE ROLE millrace_replica LOGIN REPLICATION'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'millrace_replica')
\gexec

SELECT format('ALTER ROLE millrace_replica PASSWORD %L', :'replication')
\gexec
