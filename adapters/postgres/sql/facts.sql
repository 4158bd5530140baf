-- name: entries
SELECT c.conversation_id::text, c.seq, c.kind, c.data,
       m.message_id::text, m.sender_id, m.type, m.content, m.attachments::text, m.reply_to::text,
       m.created_at, m.status
FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[]) AS wanted (conversation_id, seq)
JOIN changes c USING (conversation_id, seq)
LEFT JOIN messages m ON m.message_id = c.message_id AND c.kind = 'message';

-- name: creations
SELECT c.conversation_id::text, c.title, c.created_by, c.created_at,
       ARRAY(SELECT user_id FROM members m WHERE m.conversation_id = c.conversation_id ORDER BY user_id),
       ARRAY(SELECT user_id FROM invitations i WHERE i.conversation_id = c.conversation_id ORDER BY user_id)
FROM conversations c WHERE c.conversation_id = ANY(%(ids)s::uuid[]);

-- name: members
SELECT m.conversation_id::text, m.user_id, coalesce(r.delivered_seq, 0), coalesce(r.read_seq, 0),
       r.delivered_at, r.read_at
FROM unnest(%(conversations)s::uuid[], %(users)s::text[]) AS wanted (conversation_id, user_id)
JOIN members m USING (conversation_id, user_id)
LEFT JOIN receipts r USING (conversation_id, user_id);

-- name: messages
SELECT message_id::text, conversation_id::text, status FROM messages WHERE message_id = ANY(%(ids)s::uuid[]);

-- name: notifications
SELECT n.notification_id::text, n.conversation_id::text, n.message_id::text, n.seq, n.user_id, n.channel, n.created_at
FROM notifications n
JOIN members ON members.conversation_id = n.conversation_id AND members.user_id = n.user_id
WHERE n.notification_id = ANY(%(ids)s::uuid[]);
