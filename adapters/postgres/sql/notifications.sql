-- name: member_counts
SELECT conversation_id::text, member_count FROM conversations WHERE conversation_id = ANY(%(ids)s::uuid[]);

-- name: audiences
-- Two branches, since only a large conversation must look for notifications that are still open.
WITH given AS (
    SELECT c.conversation_id, g.newest, c.member_count > %(each_max_members)s AS collapsed
    FROM unnest(%(ids)s::uuid[], %(newest)s::bigint[]) AS g (conversation_id, newest)
    JOIN conversations c USING (conversation_id)
), missing AS (
    SELECT g.conversation_id, g.collapsed, m.user_id, coalesce(r.delivered_seq, 0) AS delivered
    FROM given g
    JOIN members m USING (conversation_id)
    LEFT JOIN receipts r USING (conversation_id, user_id)
    WHERE coalesce(r.delivered_seq, 0) < g.newest
)
SELECT conversation_id::text, collapsed,
       array_agg(user_id ORDER BY user_id), array_agg(delivered ORDER BY user_id)
FROM (
    SELECT * FROM missing WHERE NOT collapsed
    UNION ALL
    SELECT * FROM missing m WHERE collapsed AND NOT EXISTS (
        SELECT 1 FROM notifications n
        WHERE n.conversation_id = m.conversation_id AND n.user_id = m.user_id AND n.seen_at IS NULL
          AND n.seq > m.delivered)
) AS audience
GROUP BY conversation_id, collapsed;

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
