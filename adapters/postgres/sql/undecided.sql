-- name: defer
INSERT INTO notifications_due (message_id, conversation_id, due_at)
SELECT message_id, conversation_id, now() + make_interval(secs => %(after_s)s)
FROM unnest(%(messages)s::uuid[], %(conversations)s::uuid[]) AS g (message_id, conversation_id)
ORDER BY message_id
ON CONFLICT DO NOTHING;

-- name: due
SELECT clock_timestamp(), (SELECT min(due_at) FROM notifications_due WHERE due_at > %(after)s::timestamptz);

-- name: claim
-- Locks end with the session, so what a dead worker held is free at once. Of a conversation all that is due is with one
-- worker: of two that work at the same time, each would notify a member of a collapsed conversation.
SELECT message_id::text FROM (
    SELECT message_id, conversation_id, due_at FROM notifications_due
    WHERE due_at > %(after)s::timestamptz AND due_at <= %(until)s::timestamptz
    ORDER BY due_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS held
WHERE pg_try_advisory_xact_lock(%(space)s, hashtext(conversation_id::text))
ORDER BY due_at, message_id;

-- name: settle
DELETE FROM notifications_due WHERE message_id = ANY(%(messages)s::uuid[]);

-- name: postpone
UPDATE notifications_due SET due_at = now() + make_interval(secs => %(after_s)s)
WHERE message_id = ANY(%(messages)s::uuid[]);
