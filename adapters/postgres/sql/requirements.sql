-- name: database
SELECT current_database() AS database, current_user AS user, current_setting('server_encoding') AS encoding,
       current_setting('server_version_num')::int / 10000 AS version, pg_is_in_recovery() AS is_standby,
       current_setting('search_path') AS search_path, quote_ident(current_schema()) AS schema,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create;

-- name: extensions
-- An extension that is trusted may be created by whoever may create schemas in the database.
SELECT wanted.name, quote_ident(n.nspname) AS schema, available.name IS NOT NULL AS is_available,
       coalesce(me.rolsuper OR available.trusted AND has_database_privilege(current_database(), 'CREATE'), false)
           AS may_create,
       coalesce(has_schema_privilege(n.oid, 'USAGE'), false) AS may_use,
       coalesce(n.nspname = ANY(current_schemas(true)), false) AS is_found
FROM unnest(%(names)s::text[]) AS wanted (name)
JOIN pg_roles me ON me.rolname = current_user
LEFT JOIN pg_extension e ON e.extname = wanted.name
LEFT JOIN pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN LATERAL (
    SELECT v.name, bool_or(v.trusted) AS trusted FROM pg_available_extension_versions v
    WHERE v.name = wanted.name GROUP BY v.name) AS available ON true
ORDER BY wanted.name;
