-- name: lock_cursors
-- Made first, so that there is a row to lock; in one order, so that nobody waits in a circle.
INSERT INTO stage_cursors (stage, conversation_id, seq)
SELECT 'analytics', id, 0 FROM unnest(%(ids)s::uuid[]) AS id ORDER BY id
ON CONFLICT DO NOTHING;

-- name: cursors
SELECT conversation_id::text, seq FROM stage_cursors
WHERE stage = 'analytics' AND conversation_id = ANY(%(ids)s::uuid[])
ORDER BY conversation_id FOR UPDATE;

-- name: add
INSERT INTO analytics_minutes AS a (conversation_id, minute, messages)
SELECT conversation_id, minute, messages
FROM unnest(%(conversations)s::uuid[], %(minutes)s::timestamptz[], %(messages)s::int[])
    AS g (conversation_id, minute, messages)
ORDER BY conversation_id, minute
ON CONFLICT (conversation_id, minute) DO UPDATE SET messages = a.messages + excluded.messages;

-- name: correct
-- A message that comes again: its minute is counted anew from the store, up to the cursor. Times are a little out of
-- order, so the seqs between the neighbours of other minutes are taken with a thousand more on each side.
WITH again AS (
    SELECT DISTINCT ON (g.conversation_id, g.minute) g.conversation_id, g.minute, m.seq, k.seq AS cursor
    FROM unnest(%(conversations)s::uuid[], %(minutes)s::timestamptz[], %(seqs)s::bigint[])
        AS g (conversation_id, minute, seq)
    JOIN messages m ON m.conversation_id = g.conversation_id AND m.seq = g.seq
        AND date_trunc('minute', m.created_at) = g.minute
    JOIN stage_cursors k ON k.stage = 'analytics' AND k.conversation_id = g.conversation_id
    ORDER BY g.conversation_id, g.minute, m.seq
), stored AS (
    SELECT a.conversation_id, a.minute, (
        SELECT count(*)::int FROM messages m
        WHERE m.conversation_id = a.conversation_id AND m.seq <= a.cursor
          AND m.created_at >= a.minute AND m.created_at < a.minute + interval '1 minute'
          AND m.seq > coalesce((
              SELECT b.seq FROM messages b
              WHERE b.conversation_id = a.conversation_id AND b.seq < a.seq AND b.created_at < a.minute
              ORDER BY b.seq DESC LIMIT 1), 0) - 1000
          AND m.seq < coalesce((
              SELECT b.seq FROM messages b
              WHERE b.conversation_id = a.conversation_id AND b.seq > a.seq
                AND b.created_at >= a.minute + interval '1 minute'
              ORDER BY b.seq LIMIT 1), a.cursor) + 1000) AS messages
    FROM again a
)
INSERT INTO analytics_minutes AS a (conversation_id, minute, messages)
SELECT conversation_id, minute, messages FROM stored ORDER BY conversation_id, minute
ON CONFLICT (conversation_id, minute) DO UPDATE SET messages = excluded.messages
    WHERE a.messages <> excluded.messages;

-- name: advance
UPDATE stage_cursors c SET seq = g.seq
FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[]) AS g (conversation_id, seq)
WHERE c.stage = 'analytics' AND c.conversation_id = g.conversation_id AND c.seq < g.seq;

-- name: totals
SELECT a.conversation_id::text, a.minute, a.messages
FROM analytics_minutes a
JOIN unnest(%(conversations)s::uuid[], %(minutes)s::timestamptz[]) AS g (conversation_id, minute)
    USING (conversation_id, minute)
ORDER BY a.conversation_id, a.minute;

-- name: minutes
SELECT minute, messages FROM analytics_minutes
WHERE conversation_id = %(conversation_id)s::uuid
  AND (%(start)s::timestamptz IS NULL OR minute >= %(start)s::timestamptz)
  AND (%(end)s::timestamptz IS NULL OR minute < %(end)s::timestamptz)
ORDER BY minute DESC LIMIT %(limit)s;
