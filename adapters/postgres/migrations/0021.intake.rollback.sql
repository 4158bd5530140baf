DROP FUNCTION millrace_accept, millrace_append;
ALTER TABLE messages RESET (fillfactor);
ALTER TABLE outbox DROP CONSTRAINT outbox_value;
UPDATE outbox o SET value = convert_to(json_build_object(
    'message', json_build_object(
        'messageId', m.message_id, 'conversationId', m.conversation_id, 'seq', m.seq, 'senderId', m.sender_id,
        'type', m.type, 'content', m.content, 'attachments', coalesce(m.attachments, '[]'::jsonb), 'replyTo', m.reply_to,
        'createdAt', to_char(m.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'status', 'pending'),
    'clientMessageId', m.client_message_id, 'bodyHash', encode(m.body_hash, 'hex'))::text, 'UTF8')
FROM messages m
WHERE o.value IS NULL AND m.conversation_id = o.conversation_id AND m.seq = o.seq;
ALTER TABLE outbox ALTER COLUMN value SET NOT NULL;
