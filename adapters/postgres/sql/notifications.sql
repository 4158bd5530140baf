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
           greatest(r.delivered_seq, m.seen_seq) AS delivered
    FROM given g
    JOIN members m USING (conversation_id)
    LEFT JOIN receipts r USING (conversation_id, user_id)
    WHERE greatest(r.delivered_seq, m.seen_seq) < g.newest
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

-- name: lock_collapsed
-- Of two that add to a large conversation, the second waits, and its next statement sees what the first has added. In
-- the order of keys, so that two never wait for each other in a circle.
SELECT pg_advisory_xact_lock(key) FROM (
    SELECT DISTINCT hashtextextended('notifications of ' || id, 0) AS key FROM unnest(%(collapsed)s::text[]) AS id ORDER BY key
) AS ordered;

-- name: add
-- Members only, and nothing that is read by now. In a large conversation, only for members who have no notification
-- that is neither seen nor delivered. The locks of the inboxes, taken in the order of users and held until
-- the commit, make the order of numbers that of commits.
WITH given AS (
    SELECT g.* FROM unnest(%(ids)s::uuid[], %(users)s::text[], %(conversations)s::uuid[], %(messages)s::uuid[],
                           %(seqs)s::bigint[], %(channels)s::text[]) WITH ORDINALITY
        AS g (notification_id, user_id, conversation_id, message_id, seq, channel, nth)
    JOIN members m USING (conversation_id, user_id)
    LEFT JOIN receipts r USING (conversation_id, user_id)
    WHERE g.seq > greatest(r.read_seq, m.seen_seq)
      AND NOT EXISTS (SELECT 1 FROM notifications n
                      WHERE n.message_id = g.message_id AND n.user_id = g.user_id AND n.channel = g.channel)
      AND NOT (g.conversation_id = ANY(%(collapsed)s::uuid[]) AND EXISTS (
          SELECT 1 FROM notifications n
          WHERE n.conversation_id = g.conversation_id AND n.user_id = g.user_id AND n.seen_at IS NULL
            AND n.seq > greatest(r.delivered_seq, m.seen_seq)))
), raised AS (
    INSERT INTO inboxes AS i (user_id, last_number)
    SELECT user_id, count(*) FROM given GROUP BY user_id ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET last_number = i.last_number + excluded.last_number
    RETURNING i.user_id, i.last_number
)
INSERT INTO notifications (notification_id, user_id, conversation_id, message_id, seq, channel, number)
SELECT notification_id, user_id, conversation_id, message_id, seq, channel,
       raised.last_number + 1 - row_number() OVER (PARTITION BY user_id ORDER BY nth DESC)
FROM given JOIN raised USING (user_id)
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
WITH log AS MATERIALIZED (
    SELECT coalesce((SELECT epoch FROM log_state), 0) AS epoch
)
SELECT n.notification_id::text, log.epoch
FROM log CROSS JOIN notifications n
LEFT JOIN notices_published p ON p.message_id = n.message_id AND p.epoch = log.epoch
WHERE n.message_id = ANY(%(messages)s::uuid[]) AND (p.message_id IS NULL OR n.created_at > p.published_at);

-- name: note_published
-- The mark is as old as the last of these notifications: one that the lanes or the worker beside them add meanwhile is
-- younger, and its event is still to be written. It is of the epoch for which they were missing: a later log may have
-- these events and lack the earlier ones of the message, which were not missing in that epoch.
INSERT INTO notices_published AS p (message_id, epoch, published_at)
SELECT message_id, %(epoch)s, max(created_at)
FROM notifications WHERE notification_id = ANY(%(ids)s::uuid[])
GROUP BY message_id ORDER BY message_id
ON CONFLICT (message_id) DO UPDATE SET epoch = excluded.epoch, published_at = CASE
    WHEN p.epoch = excluded.epoch THEN greatest(p.published_at, excluded.published_at) ELSE excluded.published_at END
WHERE p.epoch <= excluded.epoch;

-- name: forget_published
DELETE FROM notices_published WHERE message_id IN (
    SELECT message_id FROM notices_published WHERE message_id < %(oldest)s::uuid ORDER BY message_id LIMIT 100
);

-- name: page
-- Only of conversations that the user is still a member of. The page is chosen first, along the index: a subquery for
-- each notification, and no join, so that PostgreSQL does not guess how many pass. What is read is seen, also where a
-- receipt and a new notification have met and the row does not say so.
WITH page AS (
    SELECT n.* FROM notifications n
    WHERE n.user_id = %(user_id)s
      AND n.number < CASE WHEN %(before)s::uuid IS NULL THEN 9223372036854775807 ELSE (
          SELECT b.number FROM notifications b
          WHERE b.notification_id = %(before)s::uuid AND b.user_id = %(user_id)s) END
      AND (SELECT n.seq > mine.hidden_up_to FROM members mine
           WHERE mine.conversation_id = n.conversation_id AND mine.user_id = n.user_id)
    ORDER BY n.number DESC LIMIT %(limit)s
)
SELECT n.notification_id::text, n.channel, n.created_at,
       CASE WHEN n.seen_at IS NULL AND n.seq <= greatest(r.read_seq, mine.seen_seq)
            THEN greatest(n.created_at, r.read_at, mine.joined_at) ELSE n.seen_at END,
       {message_columns}
FROM page n
JOIN messages m USING (message_id)
JOIN members mine ON mine.conversation_id = n.conversation_id AND mine.user_id = n.user_id
LEFT JOIN receipts r ON r.conversation_id = n.conversation_id AND r.user_id = n.user_id
ORDER BY n.number DESC;

-- name: unseen
WITH page AS (
    SELECT n.* FROM notifications n
    WHERE n.user_id = %(user_id)s AND n.seen_at IS NULL
      AND n.number < CASE WHEN %(before)s::uuid IS NULL THEN 9223372036854775807 ELSE (
          SELECT b.number FROM notifications b
          WHERE b.notification_id = %(before)s::uuid AND b.user_id = %(user_id)s) END
      AND (SELECT n.seq > greatest(mine.hidden_up_to, mine.seen_seq, r.read_seq)
           FROM members mine LEFT JOIN receipts r USING (conversation_id, user_id)
           WHERE mine.conversation_id = n.conversation_id AND mine.user_id = n.user_id)
    ORDER BY n.number DESC LIMIT %(limit)s
)
SELECT n.notification_id::text, n.channel, n.created_at,
       n.seen_at,
       {message_columns}
FROM page n
JOIN messages m USING (message_id)
ORDER BY n.number DESC;

-- name: number
SELECT number FROM notifications WHERE notification_id = %(up_to)s::uuid AND user_id = %(user_id)s;

-- name: mark_seen
-- In the order of numbers, so that two devices never wait for each other in a circle.
UPDATE notifications SET seen_at = now() WHERE notification_id IN (
    SELECT notification_id FROM notifications
    WHERE user_id = %(user_id)s AND seen_at IS NULL AND number <= %(number)s
    ORDER BY number FOR UPDATE
);

-- name: close_before
-- Of a member who joins anew: the notifications of the last stay.
UPDATE notifications SET seen_at = now()
WHERE conversation_id = %(conversation_id)s::uuid AND user_id = %(user_id)s AND seen_at IS NULL;
