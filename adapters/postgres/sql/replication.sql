-- name: is_kept
-- Whether the primary still has what the owner of this slot needs next.
SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %(slot)s AND wal_status <> 'lost');

-- name: drop_slots
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active;

-- name: is_streaming
SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming');
