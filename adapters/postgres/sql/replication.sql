-- name: is_kept
-- Whether the primary still has what the owner of this slot needs next.
SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %(slot)s AND wal_status <> 'lost');

-- name: drop_slots
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active;

-- name: is_synchronous
SELECT current_setting('synchronous_standby_names') <> '';

-- name: wait_for_replica
ALTER SYSTEM SET synchronous_standby_names = '*';

-- name: wait_for_nobody
ALTER SYSTEM RESET synchronous_standby_names;

-- name: owner_waits_for_nobody
-- Before a stack has its replica, its owner makes logins and migrates.
ALTER ROLE CURRENT_USER SET synchronous_commit = local;

-- name: reload
SELECT pg_reload_conf();

-- name: is_streaming
SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming');
