-- name: member_counts
SELECT conversation_id::text, member_count FROM conversations WHERE conversation_id = ANY(%(ids)s::uuid[]);

-- name: audiences
-- Two branches, since only a large conversation must look for notifications that are still open.
WITH given AS (
    SELECT c.conversation_id, g.newest, c.member_count > %(each_max_members)s AS collapsed
    FROM unnest(%(ids)s::uuid[], %(newest)s::bigint[]) AS g (conversation_id, newest)
    JOIN conversations c USING (conversation_id)
), missing AS (
    SELECT g.conversation_id, g.collapsed, m.user_id,
           greatest(coalesce(r.delivered_seq, 0), m.hidden_up_to) AS delivered
    FROM given g
    JOIN members m USING (conversation_id)
    LEFT JOIN receipts r USING (conversation_id, user_id)
    WHERE greatest(coalesce(r.delivered_seq, 0), m.hidden_up_to) < g.newest
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

-- name: told
-- A notification that is younger than its message's mark was made at a repeat, and its event may not be published.
SELECT concat_ws(':', n.message_id, n.user_id, n.channel)
FROM notifications n LEFT JOIN notices_published p USING (message_id)
WHERE n.message_id = ANY(%(messages)s::uuid[])
  AND (n.created_at <= p.published_at OR n.created_at < now() - interval '8 days');

-- name: unpublished
SELECT n.notification_id::text
FROM notifications n LEFT JOIN notices_published p
    ON p.message_id = n.message_id AND p.epoch = coalesce((SELECT epoch FROM log_state), 0)
WHERE n.message_id = ANY(%(messages)s::uuid[]) AND (p.message_id IS NULL OR n.created_at > p.published_at);

-- name: note_published
INSERT INTO notices_published AS p (message_id, epoch)
SELECT id, coalesce((SELECT epoch FROM log_state), 0) FROM unnest(%(messages)s::uuid[]) AS id ORDER BY id
ON CONFLICT (message_id) DO UPDATE SET epoch = excluded.epoch, published_at = now();

-- name: forget_published
DELETE FROM notices_published WHERE message_id IN (
    SELECT message_id FROM notices_published WHERE message_id < %(oldest)s::uuid ORDER BY message_id LIMIT 100
);

-- name: page
-- Only of conversations that the user is still a member of.
SELECT n.notification_id::text, n.channel, n.created_at, n.seen_at, {message_columns}
FROM notifications n
JOIN messages m USING (message_id)
JOIN members ON members.conversation_id = n.conversation_id AND members.user_id = n.user_id
    AND n.seq > members.hidden_up_to
WHERE n.user_id = %(user_id)s
  AND (NOT %(unseen)s OR n.seen_at IS NULL)
  AND (%(before)s::uuid IS NULL OR n.notification_id < %(before)s::uuid)
ORDER BY n.notification_id DESC LIMIT %(limit)s;

-- name: mark_seen
UPDATE notifications SET seen_at = now()
WHERE user_id = %(user_id)s AND seen_at IS NULL AND notification_id <= %(up_to)s::uuid;
