-- name: memberships
SELECT conversation_id::text, user_id, joined_seq, hidden_up_to
FROM members JOIN unnest(%(conversations)s::uuid[], %(users)s::text[]) AS asked (conversation_id, user_id)
  USING (conversation_id, user_id);

-- name: members
SELECT asked.conversation_id::text, asked.most, found.user_id
FROM unnest(%(conversations)s::uuid[], %(limits)s::int[]) AS asked (conversation_id, most),
  LATERAL (SELECT user_id FROM members WHERE members.conversation_id = asked.conversation_id
           ORDER BY user_id LIMIT asked.most) AS found;

-- name: participants
SELECT asked.conversation_id::text, asked.most, found.user_id, found.has_written
FROM unnest(%(conversations)s::uuid[], %(limits)s::int[]) AS asked (conversation_id, most),
  LATERAL (SELECT user_id, has_written FROM members WHERE members.conversation_id = asked.conversation_id
           ORDER BY user_id LIMIT asked.most) AS found;

-- name: heads
-- With the epoch of which they are, which is returned without any conversation, too.
SELECT (SELECT id FROM store_epochs ORDER BY number DESC, server IS NULL LIMIT 1), c.conversation_id::text, c.last_seq
FROM (VALUES (true)) AS always (yes) LEFT JOIN conversations c ON c.conversation_id = ANY(%(ids)s::uuid[]);

-- name: shared
-- Up to the start of the first epoch that is later; of an epoch that the store does not know, nothing is shared.
SELECT c.conversation_id::text, asked.epoch, CASE WHEN e.id IS NULL THEN 0 ELSE least(c.last_seq, (
           SELECT min(s.seq) FROM epoch_starts s WHERE s.conversation_id = c.conversation_id AND s.epoch > e.number)) END
FROM unnest(%(conversations)s::uuid[], %(epochs)s::text[]) AS asked (conversation_id, epoch)
JOIN conversations c USING (conversation_id)
LEFT JOIN store_epochs e ON e.id = asked.epoch;

-- name: changes
-- The statement sees whole commits only, so what it returns is dense: seq is given under the row lock.
SELECT c.conversation_id::text, c.seq, c.kind, c.data,
       m.message_id::text, m.sender_id, m.type, m.content, m.attachments::text, m.reply_to::text,
       m.created_at, m.status
FROM changes c
LEFT JOIN messages m ON m.message_id = c.message_id AND c.kind = 'message'
WHERE c.conversation_id = %(conversation_id)s::uuid AND c.seq > %(after)s AND c.seq <= %(up_to)s
ORDER BY c.seq
LIMIT %(limit)s;

-- name: place_of
SELECT conversation_id::text, seq FROM messages WHERE message_id = %(message_id)s::uuid;

-- name: reached
-- Of a device with a name its own watermarks, of others those of the member.
SELECT asked.conversation_id::text, asked.user_id, asked.device,
       coalesce(d.delivered_seq, r.delivered_seq, 0), coalesce(d.read_seq, r.read_seq, 0)
FROM unnest(%(conversations)s::uuid[], %(users)s::text[], %(devices)s::text[]) AS asked (conversation_id, user_id, device)
LEFT JOIN device_receipts d ON asked.device <> %(no_device)s AND d.conversation_id = asked.conversation_id
  AND d.user_id = asked.user_id AND d.device = asked.device
LEFT JOIN receipts r ON asked.device = %(no_device)s AND r.conversation_id = asked.conversation_id
  AND r.user_id = asked.user_id;

-- name: small_conversations
SELECT asked.user_id, asked.most, found.conversation_id::text, found.has_written
FROM unnest(%(users)s::text[], %(limits)s::int[]) AS asked (user_id, most),
  LATERAL (SELECT conversation_id, has_written FROM members JOIN conversations USING (conversation_id)
           WHERE members.user_id = asked.user_id AND member_count <= asked.most
           ORDER BY last_at DESC LIMIT 500) AS found;
