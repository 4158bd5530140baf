-- name: head
SELECT c.last_seq FROM conversations c JOIN members m USING (conversation_id)
WHERE c.conversation_id = %(conversation_id)s::uuid AND m.user_id = %(user_id)s;

-- name: owe
-- The same receipt again is told again: its first telling may have been lost.
INSERT INTO outbox (conversation_id, seq, part, shard, topic, value, event_id)
VALUES (%(conversation_id)s::uuid, %(seq)s, %(part)s, %(shard)s, %(topic)s, %(value)s, %(event_id)s)
ON CONFLICT (conversation_id, seq, part) DO UPDATE SET published_at = NULL, value = excluded.value;
