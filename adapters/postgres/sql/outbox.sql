-- name: let_go
-- A relay asks twice a second, and waits at most 15 s for the broker between; one that is silent for longer is frozen, or
-- its machine is gone. The server ends its session then, and its shards are free.
SELECT set_config('idle_session_timeout', '20s', false), set_config('tcp_keepalives_idle', '5', false),
       set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false);

-- name: claim
-- Session-level locks: they end with the connection, so a dead relay's shards are free at once.
SELECT shard FROM unnest(%(shards)s::int[]) AS shard WHERE pg_try_advisory_lock(%(space)s, shard);

-- name: unpublished
-- Shard by shard, so that the index gives the order: what is owed after a loss may be millions of rows.
SELECT owed.conversation_id::text, owed.seq, owed.topic, owed.value, owed.event_id, owed.part, owed.replay
FROM unnest(%(shards)s::smallint[]) AS owned (shard)
CROSS JOIN LATERAL (
    SELECT * FROM outbox WHERE outbox.shard = owned.shard AND outbox.published_at IS NULL
    ORDER BY conversation_id, seq, part LIMIT %(limit)s
) AS owed
ORDER BY owed.conversation_id, owed.seq, owed.part
LIMIT %(limit)s;

-- name: mark
-- Writes the row that a found loss changes: marks come wholly before it, or count for nothing.
WITH noted AS (
    UPDATE log_state SET ends = log_state.ends || (
        SELECT coalesce(jsonb_object_agg(place, greatest(reached, (log_state.ends ->> place)::bigint)), '{}')
        FROM unnest(%(places)s::text[], %(ends)s::bigint[]) AS written (place, reached)
    )
    WHERE epoch = %(epoch)s
    RETURNING epoch
)
UPDATE outbox o SET published_at = now()
FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[], %(parts)s::text[], %(event_ids)s::text[])
    AS done (conversation_id, seq, part, event_id)
WHERE o.conversation_id = done.conversation_id AND o.seq = done.seq AND o.part = done.part
  AND o.event_id = done.event_id  -- a later receipt may be owed in its place by now
  AND o.published_at IS NULL
  AND (EXISTS (SELECT FROM noted) OR NOT EXISTS (SELECT FROM log_state));

-- name: state
SELECT cluster_id, replication, ends, epoch FROM log_state FOR UPDATE;

-- name: first_note
INSERT INTO log_state (cluster_id, replication, ends) VALUES (%(cluster_id)s, %(replication)s, %(ends)s::jsonb)
ON CONFLICT DO NOTHING;

-- name: note
UPDATE log_state SET cluster_id = %(cluster_id)s, replication = %(replication)s, ends = %(ends)s::jsonb,
                     epoch = %(epoch)s, noted_at = now();

-- name: replication
SELECT replication FROM log_state;

-- name: no_hurry
-- All that is retained may be millions of rows.
SET LOCAL statement_timeout = '15min';

-- name: republish
-- What was published long enough before the last publication has reached all who had to be told of it.
UPDATE outbox SET published_at = NULL, replay = replay OR published_at <= (
    SELECT max(published_at) - make_interval(secs => %(told_after_s)s) FROM outbox)
WHERE published_at IS NOT NULL
  AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s::timestamptz)
  AND (%(conversation_id)s::uuid IS NULL OR conversation_id = %(conversation_id)s::uuid);

-- name: owed
SELECT count(*) FROM outbox
WHERE published_at IS NULL AND created_at <= %(until)s::timestamptz
  AND (%(conversation_id)s::uuid IS NULL OR conversation_id = %(conversation_id)s::uuid);

-- name: oldest
-- Of what is owed after a loss there may be millions of rows: then a part tells enough.
SELECT min(created_at) FROM (SELECT created_at FROM outbox WHERE published_at IS NULL LIMIT 10000) AS owed;

-- name: prune
DELETE FROM outbox WHERE ctid IN (
    SELECT ctid FROM outbox WHERE published_at < now() - make_interval(hours => %(hours)s) LIMIT %(limit)s
);

-- name: announce
SELECT pg_notify('outbox', '');

-- name: listen
LISTEN outbox;
