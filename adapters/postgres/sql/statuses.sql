-- name: mark_sent
-- Where the store has the message in the claimed place. The rows are returned as they were before. The last column tells
-- whether the message answers one of another that no receipt of its sender covers; what was said before the sender
-- joined needs none.
WITH raised AS (
    UPDATE messages m SET status = 1
    FROM unnest(%(ids)s::uuid[], %(conversations)s::uuid[], %(seqs)s::bigint[]) AS g (message_id, conversation_id, seq)
    WHERE m.message_id = g.message_id AND m.conversation_id = g.conversation_id AND m.seq = g.seq AND m.status < 1
)
SELECT {message_columns},
       coalesce(before.sender_id <> m.sender_id AND before.seq > greatest(member.joined_seq, r.read_seq), false)
FROM messages m
LEFT JOIN members member ON member.conversation_id = m.conversation_id AND member.user_id = m.sender_id
LEFT JOIN receipts r ON r.conversation_id = m.conversation_id AND r.user_id = m.sender_id
LEFT JOIN LATERAL (
    SELECT b.sender_id, b.seq FROM messages b WHERE b.conversation_id = m.conversation_id AND b.seq < m.seq
    ORDER BY b.seq DESC LIMIT 1
) AS before ON true
WHERE m.message_id = ANY(%(ids)s::uuid[]);

-- name: raise_devices
-- Members only, and nothing beyond the head: what lies beyond it is not merged with what does not. Returns the heads,
-- and whether a device of the member is new.
WITH given AS (
    SELECT g.conversation_id, g.user_id, g.device, GREATEST(g.delivered, g.read) AS delivered, g.read, c.last_seq
    FROM unnest(%(conversations)s::uuid[], %(users)s::text[], %(devices)s::text[], %(delivered)s::bigint[],
                %(reads)s::bigint[]) AS g (conversation_id, user_id, device, delivered, read)
    JOIN members USING (conversation_id, user_id)
    JOIN conversations c USING (conversation_id)
), raised AS (
    INSERT INTO device_receipts AS d (conversation_id, user_id, device, delivered_seq, read_seq)
    SELECT conversation_id, user_id, device, max(delivered), max(read) FROM given
    WHERE delivered BETWEEN 1 AND last_seq
    GROUP BY conversation_id, user_id, device
    ORDER BY conversation_id, user_id, device
    ON CONFLICT (conversation_id, user_id, device) DO UPDATE SET
        delivered_seq = GREATEST(d.delivered_seq, excluded.delivered_seq),
        read_seq = GREATEST(d.read_seq, excluded.read_seq),
        at = now()
    WHERE d.delivered_seq < excluded.delivered_seq OR d.read_seq < excluded.read_seq
    RETURNING d.conversation_id, d.user_id, d.xmax = 0 AS is_new
)
SELECT g.conversation_id::text, g.user_id, g.last_seq, coalesce(bool_or(r.is_new), false)
FROM given g LEFT JOIN raised r USING (conversation_id, user_id)
GROUP BY g.conversation_id, g.user_id, g.last_seq;

-- name: forget_devices
-- Names of devices are the client's to choose: of each member the latest are kept.
DELETE FROM device_receipts d
USING (
    SELECT conversation_id, user_id, device,
           row_number() OVER (PARTITION BY conversation_id, user_id ORDER BY at DESC, device) AS nth
    FROM unnest(%(conversations)s::uuid[], %(users)s::text[]) AS g (conversation_id, user_id)
    JOIN device_receipts USING (conversation_id, user_id)
) AS ranked
WHERE ranked.nth > %(devices)s AND d.conversation_id = ranked.conversation_id AND d.user_id = ranked.user_id
  AND d.device = ranked.device;

-- name: raise_watermarks
-- Members only; returns what was before and what is now. A mark below what is stored is late news and returns nothing.
-- Each goes at most ``step`` seqs further; the last column tells whether that falls short of the mark.
WITH given AS (
    SELECT g.conversation_id, g.user_id, c.member_count,
           GREATEST(g.delivered, g.read) AS wanted, g.read AS wanted_read
    FROM unnest(%(conversations)s::uuid[], %(users)s::text[], %(delivered)s::bigint[], %(reads)s::bigint[])
        AS g (conversation_id, user_id, delivered, read)
    JOIN members USING (conversation_id, user_id)
    JOIN conversations c USING (conversation_id)
), stored AS (
    SELECT given.*, coalesce(r.delivered_seq, 0) AS old_delivered, coalesce(r.read_seq, 0) AS old_read,
           coalesce(r.read_count, 0) AS old_count
    FROM given LEFT JOIN receipts r USING (conversation_id, user_id)
), stepped AS (
    SELECT stored.*, LEAST(wanted, old_delivered + %(step)s) AS delivered FROM stored
), before AS (
    SELECT stepped.*, LEAST(wanted_read, old_read + %(step)s, GREATEST(old_delivered, delivered)) AS read FROM stepped
), raised AS (
    INSERT INTO receipts AS r (conversation_id, user_id, delivered_seq, read_seq, read_count, delivered_at, read_at)
    SELECT conversation_id, user_id, delivered, read, old_count + (
               SELECT count(*) FROM messages u
               WHERE u.conversation_id = before.conversation_id AND u.seq > old_read AND u.seq <= read),
           now(), CASE WHEN read > 0 THEN now() END
    FROM before
    WHERE delivered > old_delivered OR read > old_read
    ORDER BY conversation_id, user_id
    ON CONFLICT (conversation_id, user_id) DO UPDATE SET
        delivered_seq = GREATEST(r.delivered_seq, excluded.delivered_seq),
        read_seq = GREATEST(r.read_seq, excluded.read_seq),
        read_count = GREATEST(r.read_count, excluded.read_count),
        delivered_at = CASE WHEN excluded.delivered_seq > r.delivered_seq THEN now() ELSE r.delivered_at END,
        read_at = CASE WHEN excluded.read_seq > r.read_seq THEN now() ELSE r.read_at END
)
SELECT conversation_id::text, user_id, member_count,
       old_delivered, GREATEST(old_delivered, delivered), old_read, GREATEST(old_read, read),
       wanted > delivered OR wanted_read > read
FROM before
WHERE (delivered >= old_delivered AND delivered > 0) OR (read >= old_read AND read > 0);

-- name: raise_statuses
-- Messages of others in (from, to]. Two members may cover the same one: it is told through one of them.
UPDATE messages m SET status = %(status)s
FROM unnest(%(conversations)s::uuid[], %(users)s::text[], %(starts)s::bigint[], %(ends)s::bigint[])
    AS w (conversation_id, user_id, start, "end")
WHERE m.conversation_id = w.conversation_id AND m.seq > w.start AND m.seq <= w."end"
  AND m.sender_id <> w.user_id AND m.status < %(status)s
RETURNING m.conversation_id::text, w.user_id, m.message_id::text, m.sender_id;

-- name: senders
SELECT DISTINCT w.conversation_id::text, w.user_id, m.sender_id
FROM unnest(%(conversations)s::uuid[], %(users)s::text[], %(starts)s::bigint[], %(ends)s::bigint[])
    AS w (conversation_id, user_id, start, "end")
JOIN messages m ON m.conversation_id = w.conversation_id AND m.seq > w.start AND m.seq <= w."end"
WHERE m.sender_id <> w.user_id;

-- name: close_notifications
-- What a member has read is seen. A row that is locked is being marked as seen by the member.
UPDATE notifications SET seen_at = now() WHERE notification_id IN (
    SELECT n.notification_id
    FROM unnest(%(conversations)s::uuid[], %(users)s::text[], %(ends)s::bigint[]) AS w (conversation_id, user_id, "end")
    JOIN notifications n USING (conversation_id, user_id)
    WHERE n.seq <= w."end" AND n.seen_at IS NULL
    FOR UPDATE OF n SKIP LOCKED
);

-- name: sent
SELECT message_id::text FROM messages WHERE message_id = ANY(%(ids)s::uuid[]) AND status >= 1;

-- name: watermarks
SELECT r.conversation_id::text, r.user_id, r.delivered_seq, r.read_seq
FROM unnest(%(conversations)s::uuid[], %(users)s::text[]) AS g (conversation_id, user_id)
JOIN receipts r USING (conversation_id, user_id);
