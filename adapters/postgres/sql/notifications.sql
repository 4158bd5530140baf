-- name: members
SELECT conversation_id::text, array_agg(user_id ORDER BY user_id),
       array_agg(coalesce(delivered_seq, 0) ORDER BY user_id)
FROM members LEFT JOIN receipts USING (conversation_id, user_id)
WHERE conversation_id = ANY(%(ids)s::uuid[]) GROUP BY conversation_id;

-- name: add
INSERT INTO notifications (notification_id, user_id, conversation_id, message_id, seq, channel)
SELECT * FROM unnest(%(ids)s::uuid[], %(users)s::text[], %(conversations)s::uuid[], %(messages)s::uuid[],
                     %(seqs)s::bigint[], %(channels)s::text[])
ON CONFLICT (message_id, user_id, channel) DO NOTHING;

-- name: stored
SELECT n.notification_id::text, n.message_id::text, n.conversation_id::text, n.seq, n.user_id, n.channel
FROM notifications n WHERE n.message_id = ANY(%(messages)s::uuid[])
ORDER BY n.conversation_id, n.seq, n.user_id;

-- name: page
-- Only of conversations that the user is still a member of.
SELECT n.notification_id::text, n.channel, n.created_at, n.seen_at, {message_columns}
FROM notifications n
JOIN messages m USING (message_id)
JOIN members ON members.conversation_id = n.conversation_id AND members.user_id = n.user_id
WHERE n.user_id = %(user_id)s
  AND (NOT %(unseen)s OR n.seen_at IS NULL)
  AND (%(before)s::uuid IS NULL OR n.notification_id < %(before)s::uuid)
ORDER BY n.notification_id DESC LIMIT %(limit)s;

-- name: mark_seen
UPDATE notifications SET seen_at = now()
WHERE user_id = %(user_id)s AND seen_at IS NULL AND notification_id <= %(up_to)s::uuid;
