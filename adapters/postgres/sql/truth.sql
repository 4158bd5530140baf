-- name: one_moment
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: heads
SELECT conversation_id::text, last_seq FROM conversations WHERE conversation_id = ANY(%(ids)s::uuid[]);

-- name: rows
SELECT message_id::text, conversation_id::text, seq, sender_id, client_message_id,
       sha256(convert_to(content, 'UTF8')), status
FROM messages WHERE conversation_id = ANY(%(ids)s::uuid[]) ORDER BY conversation_id, seq;

-- name: entries
SELECT conversation_id::text, seq, kind, message_id::text
FROM changes WHERE conversation_id = ANY(%(ids)s::uuid[]) ORDER BY conversation_id, seq;

-- name: marks
SELECT conversation_id::text, user_id, delivered_seq, read_seq
FROM receipts WHERE conversation_id = ANY(%(ids)s::uuid[]);

-- name: statuses
SELECT message_id::text, status FROM messages WHERE conversation_id = ANY(%(ids)s::uuid[]);

-- name: owed
SELECT (SELECT count(*) FROM outbox WHERE conversation_id = ANY(%(ids)s::uuid[]) AND published_at IS NULL),
       (SELECT count(*) FROM messages WHERE conversation_id = ANY(%(ids)s::uuid[]) AND status = 0);

-- name: devices
SELECT conversation_id::text, user_id, device, delivered_seq, read_seq
FROM device_receipts WHERE conversation_id = ANY(%(ids)s::uuid[]);

-- name: notifications
SELECT conversation_id::text, notification_id::text, user_id, message_id::text, seq, seen_at IS NOT NULL
FROM notifications WHERE conversation_id = ANY(%(ids)s::uuid[]) ORDER BY conversation_id, seq, user_id;

-- name: undecided
SELECT count(*) FROM notifications_due WHERE conversation_id = ANY(%(ids)s::uuid[]);
