-- name: is_member
SELECT 1 FROM members WHERE conversation_id = %(conversation_id)s::uuid AND user_id = %(user_id)s;

-- name: members
SELECT user_id FROM members WHERE conversation_id = %(conversation_id)s::uuid ORDER BY user_id;

-- name: heads
SELECT conversation_id::text, last_seq FROM conversations WHERE conversation_id = ANY(%(ids)s::uuid[]);

-- name: changes
-- The statement sees whole commits only, so what it returns is dense: seq is given under the row lock.
SELECT c.conversation_id::text, c.seq, c.kind, c.data,
       m.message_id::text, m.sender_id, m.type, m.content, m.attachments, m.reply_to::text,
       m.created_at, m.status
FROM changes c
LEFT JOIN messages m ON m.message_id = c.message_id AND c.kind = 'message'
WHERE c.conversation_id = %(conversation_id)s::uuid AND c.seq > %(after)s AND c.seq <= %(up_to)s
ORDER BY c.seq
LIMIT %(limit)s;

-- name: place_of
SELECT conversation_id::text, seq FROM messages WHERE message_id = %(message_id)s::uuid;

-- name: small_conversations
SELECT conversation_id::text
FROM members JOIN conversations USING (conversation_id)
WHERE user_id = %(user_id)s AND member_count <= %(max_members)s
ORDER BY last_at DESC
LIMIT 500;
