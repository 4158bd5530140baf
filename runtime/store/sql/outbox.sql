-- name: claim
-- Session-level locks: they end with the connection, so a dead relay's shards are free at once.
SELECT shard FROM unnest(%(shards)s::int[]) AS shard WHERE pg_try_advisory_lock(%(space)s, shard);

-- name: unpublished
SELECT conversation_id::text, seq, topic, value, event_id FROM outbox
WHERE shard = ANY(%(shards)s::smallint[]) AND published_at IS NULL
ORDER BY conversation_id, seq
LIMIT %(limit)s;

-- name: mark
UPDATE outbox o SET published_at = now()
FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[]) AS done (conversation_id, seq)
WHERE o.conversation_id = done.conversation_id AND o.seq = done.seq AND o.published_at IS NULL;

-- name: prune
DELETE FROM outbox WHERE ctid IN (
    SELECT ctid FROM outbox WHERE published_at < now() - make_interval(hours => %(hours)s) LIMIT 10000
);

-- name: announce
SELECT pg_notify('outbox', '');

-- name: listen
LISTEN outbox;
