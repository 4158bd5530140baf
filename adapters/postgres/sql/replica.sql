-- name: position
-- Where the primary's log ends: what is visible here is in it. Fails on a standby.
SELECT (SELECT system_identifier FROM pg_control_system()),
       ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int,
       (SELECT id::text FROM store_epochs ORDER BY number DESC, server IS NULL LIMIT 1),
       pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint;

-- name: replayed
-- How far a replica is. Both timelines are those of a time before now, so the greater one is not beyond the truth. The
-- process is the one that the driver knows of, unless a pooler stands between.
SELECT (SELECT system_identifier FROM pg_control_system()),
       greatest((SELECT timeline_id FROM pg_control_checkpoint()),
                (SELECT min_recovery_end_timeline FROM pg_control_recovery())),
       (SELECT id::text FROM store_epochs ORDER BY number DESC, server IS NULL LIMIT 1),
       coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0)::bigint,
       pg_is_in_recovery(),
       pg_backend_pid();
