-- name: head
SELECT c.last_seq FROM conversations c JOIN members m USING (conversation_id)
WHERE c.conversation_id = %(conversation_id)s::uuid AND m.user_id = %(user_id)s;

-- name: owed
SELECT value, event_id, published_at IS NULL FROM outbox
WHERE conversation_id = %(conversation_id)s::uuid AND seq = 0 AND part = %(part)s;
