-- name: lock_or_wait
-- The lock that gives seqs. In the order of their ids, so that two batches never wait for each other in a circle. NO KEY:
-- whoever adds a member or a receipt shares the key of the conversation, by its foreign key, and is no competitor.
SELECT conversation_id::text, last_seq, message_count FROM conversations
WHERE conversation_id = ANY(%(conversations)s::uuid[])
ORDER BY conversation_id
FOR NO KEY UPDATE;

-- name: lock_or_pass
-- A conversation that somebody else holds is passed over: nobody waits for a stranger.
SELECT conversation_id::text, last_seq, message_count FROM conversations
WHERE conversation_id = ANY(%(conversations)s::uuid[])
FOR NO KEY UPDATE SKIP LOCKED;

-- name: append
SELECT millrace_append(
    %(at)s, %(conversations)s::uuid[], %(seqs)s::bigint[], %(kinds)s::text[], %(messages)s::uuid[], %(details)s::text[],
    %(activity)s::boolean[], %(shards)s::smallint[], %(topics)s::text[], %(values)s::bytea[], %(events)s::text[]);

-- name: insert_outbox
-- Positions are drawn in the order of seqs, under the lock of the conversation.
INSERT INTO outbox (conversation_id, seq, shard, topic, value, event_id)
SELECT conversation_id, seq, shard, topic, value, event_id
FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[], %(shards)s::smallint[], %(topics)s::text[],
            %(values)s::bytea[], %(ids)s::text[])
    AS owed (conversation_id, seq, shard, topic, value, event_id)
ORDER BY seq;

-- name: owe_again
-- An event that was owed before is owed again: its first telling may have been lost.
INSERT INTO outbox (conversation_id, seq, part, shard, topic, value, event_id, again)
SELECT conversation_id, seq, part, shard, topic, value, event_id, true
FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[], %(parts)s::text[], %(shards)s::smallint[],
            %(topics)s::text[], %(values)s::bytea[], %(ids)s::text[])
    AS owed (conversation_id, seq, part, shard, topic, value, event_id)
ON CONFLICT (conversation_id, seq, part) DO UPDATE
    SET published_at = NULL, replay = false, topic = excluded.topic, value = excluded.value,
        event_id = excluded.event_id, position = excluded.position, again = true;

-- name: owe_instead
-- Only in place of the event that the caller has found there.
INSERT INTO outbox (conversation_id, seq, part, shard, topic, value, event_id)
SELECT conversation_id, seq, part, shard, topic, value, event_id
FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[], %(parts)s::text[], %(shards)s::smallint[],
            %(topics)s::text[], %(values)s::bytea[], %(ids)s::text[])
    AS owed (conversation_id, seq, part, shard, topic, value, event_id)
ON CONFLICT (conversation_id, seq, part) DO UPDATE
    SET published_at = NULL, replay = false, created_at = now(), topic = excluded.topic, value = excluded.value,
        event_id = excluded.event_id, position = excluded.position, again = false
    WHERE outbox.event_id = %(before)s;
