-- name: bound
SET LOCAL statement_timeout = '60s';

-- name: clock
SELECT (extract(epoch FROM now()) * 1000)::bigint;

-- name: spans
-- Message ids are UUIDv7, so the primary key finds them by time: they are made a moment before they are stored.
WITH recent AS (
    SELECT conversation_id, min(seq) AS start FROM messages
    WHERE message_id >= %(oldest)s::uuid AND created_at >= %(since)s
    GROUP BY conversation_id
)
SELECT c.conversation_id::text, coalesce(r.start, c.last_seq)
FROM conversations c LEFT JOIN recent r USING (conversation_id)
WHERE c.last_seq > 0 AND (r.start IS NOT NULL OR c.last_at >= %(since)s)
  AND (%(only)s::uuid[] IS NULL OR c.conversation_id = ANY(%(only)s::uuid[]));

-- name: rows
-- What another member than the sender has received or read up to is among the two highest of the conversation.
WITH highest AS (
    SELECT * FROM (
        SELECT conversation_id, user_id, delivered_seq, read_seq,
               row_number() OVER (PARTITION BY conversation_id ORDER BY delivered_seq DESC) AS by_delivered,
               row_number() OVER (PARTITION BY conversation_id ORDER BY read_seq DESC) AS by_read
        FROM receipts WHERE conversation_id = ANY(%(ids)s::uuid[])
    ) AS ranked WHERE by_delivered <= 2 OR by_read <= 2
)
SELECT m.message_id::text, m.conversation_id::text, m.seq, (extract(epoch FROM m.created_at) * 1000)::bigint, m.status,
       m.status >= 2 AND m.status > backed.status, m.status < backed.status,
       substring(sha256(convert_to(concat_ws(E'\x1f',
           m.message_id, m.conversation_id, m.seq, m.sender_id, m.type, m.content, files.texts,
           coalesce(m.reply_to::text, ''),
           to_char(m.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')), 'UTF8')) FOR 16),
       btrim(m.content, %(blank)s) <> '',
       c.seq IS NOT NULL,
       CASE WHEN o.seq IS NULL THEN 'gone' WHEN o.published_at IS NULL THEN 'owed' ELSE 'published' END,
       CASE WHEN d.message_id IS NULL THEN 'missing'
            WHEN d.conversation_id = m.conversation_id AND d.seq = m.seq AND d.sender_id = m.sender_id
                 AND d.digest = substring(sha256(convert_to(m.content, 'UTF8')) FOR 16) THEN 'there'
            ELSE 'different' END,
       files.ids
FROM unnest(%(ids)s::uuid[], %(starts)s::bigint[]) AS s (conversation_id, start)
JOIN messages m ON m.conversation_id = s.conversation_id AND m.seq >= s.start
LEFT JOIN changes c ON c.conversation_id = m.conversation_id AND c.seq = m.seq
    AND c.kind = 'message' AND c.message_id = m.message_id
LEFT JOIN outbox o ON o.conversation_id = m.conversation_id AND o.seq = m.seq AND o.part = ''
    AND o.topic = 'message.created' AND o.event_id = m.message_id::text
LEFT JOIN search_documents d ON d.message_id = m.message_id
CROSS JOIN LATERAL (
    SELECT coalesce(max(CASE WHEN h.read_seq >= m.seq THEN 3 WHEN h.delivered_seq >= m.seq THEN 2 END), 0) AS status
    FROM highest h WHERE h.conversation_id = m.conversation_id AND h.user_id <> m.sender_id
) AS backed
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(file->>'mediaId'), '{}') AS ids, coalesce(string_agg(concat(
               file->>'mediaId', E'\x1e', file->>'name', E'\x1e', file->>'type', E'\x1e', file->>'size', E'\x1e',
               file->>'width', E'\x1e', file->>'height', E'\x1e', file->>'durationMs', E'\x1e', file->>'blurhash', E'\x1e',
               file->>'thumbnail'), ',' ORDER BY nth), '') AS texts
    FROM jsonb_array_elements(m.attachments) WITH ORDINALITY AS named (file, nth)
) AS files
ORDER BY m.conversation_id, m.seq;

-- name: seqs
-- One before the window too, so that a hole at its edge is seen.
SELECT coalesce(sum(c.last_seq - greatest(s.start - 1, 1) + 1), 0)::bigint
FROM unnest(%(ids)s::uuid[], %(starts)s::bigint[]) AS s (conversation_id, start)
JOIN conversations c USING (conversation_id);

-- name: holes
SELECT s.conversation_id::text, g.seq
FROM unnest(%(ids)s::uuid[], %(starts)s::bigint[]) AS s (conversation_id, start)
JOIN conversations c USING (conversation_id)
CROSS JOIN LATERAL generate_series(greatest(s.start - 1, 1), c.last_seq) AS g (seq)
LEFT JOIN changes ch ON ch.conversation_id = s.conversation_id AND ch.seq = g.seq
WHERE ch.seq IS NULL
ORDER BY 1, 2;

-- name: stray_changes
SELECT ch.conversation_id::text, ch.seq
FROM unnest(%(ids)s::uuid[], %(starts)s::bigint[]) AS s (conversation_id, start)
JOIN conversations c USING (conversation_id)
JOIN changes ch ON ch.conversation_id = s.conversation_id AND ch.seq >= s.start
LEFT JOIN messages m ON m.conversation_id = ch.conversation_id AND m.seq = ch.seq AND m.message_id = ch.message_id
WHERE ch.seq > c.last_seq OR (ch.kind = 'message' AND m.message_id IS NULL)
ORDER BY 1, 2;

-- name: untold
SELECT ch.conversation_id::text, ch.seq
FROM unnest(%(ids)s::uuid[], %(starts)s::bigint[]) AS s (conversation_id, start)
JOIN changes ch ON ch.conversation_id = s.conversation_id AND ch.seq >= s.start
LEFT JOIN outbox o ON o.conversation_id = ch.conversation_id AND o.seq = ch.seq AND o.part = ''
WHERE ch.kind IN ('member_added', 'member_removed', 'member_invited', 'invitation_ended') AND o.seq IS NULL
  AND ch.at > now() - make_interval(secs => %(kept_s)s)
ORDER BY 1, 2;

-- name: repeated_keys
SELECT message_id::text, message_id::text, conversation_id::text, seq
FROM (
    SELECT m.message_id, m.conversation_id, m.seq,
           row_number() OVER (PARTITION BY m.sender_id, m.client_message_id ORDER BY m.message_id) AS nth
    FROM unnest(%(ids)s::uuid[], %(starts)s::bigint[]) AS s (conversation_id, start)
    JOIN messages m ON m.conversation_id = s.conversation_id AND m.seq >= s.start
    WHERE m.client_message_id IS NOT NULL
) AS used WHERE nth > 1;

-- name: receipts
SELECT count(*) FROM receipts WHERE conversation_id = ANY(%(ids)s::uuid[]);

-- name: watermarks
SELECT r.conversation_id::text, r.user_id, r.delivered_seq, r.read_seq, c.last_seq
FROM receipts r JOIN conversations c USING (conversation_id)
WHERE r.conversation_id = ANY(%(ids)s::uuid[])
  AND (r.delivered_seq > c.last_seq OR r.read_seq > c.last_seq OR r.read_seq > r.delivered_seq);

-- name: notifications
SELECT n.notification_id::text, n.message_id::text, n.conversation_id::text, n.seq
FROM unnest(%(ids)s::uuid[], %(starts)s::bigint[]) AS s (conversation_id, start)
JOIN messages m ON m.conversation_id = s.conversation_id AND m.seq >= s.start
JOIN notifications n ON n.message_id = m.message_id;

-- name: media
SELECT p.message_id || ':' || p.media_id, p.message_id::text, p.conversation_id::text, p.seq
FROM unnest(%(ids)s::uuid[], %(starts)s::bigint[]) AS s (conversation_id, start)
JOIN messages m ON m.conversation_id = s.conversation_id AND m.seq >= s.start AND m.attachments IS NOT NULL
JOIN media_places p ON p.message_id = m.message_id;

-- name: tallies
-- Counts and cursor move in one transaction, so they agree at any moment. The window's first minute is taken whole:
-- ``before`` is the last message of the minute before, and a thousand more, for times are a little out of order. Minutes
-- that are pruned, or soon will be, are left out.
WITH span AS (
    SELECT s.conversation_id, coalesce(k.seq, 0) AS cursor, f.minute, coalesce((
        SELECT m.seq FROM messages m
        WHERE m.conversation_id = s.conversation_id AND m.seq < s.start AND m.created_at < f.minute
        ORDER BY m.seq DESC LIMIT 1), 0) - 1000 AS before
    FROM unnest(%(ids)s::uuid[], %(starts)s::bigint[]) AS s (conversation_id, start)
    JOIN LATERAL (
        SELECT greatest(date_trunc('minute', m.created_at), CASE WHEN %(counted_s)s::float8 > 0 THEN
            date_trunc('minute', now() - make_interval(secs => %(counted_s)s::float8)) END) AS minute FROM messages m
        WHERE m.conversation_id = s.conversation_id AND m.seq >= s.start ORDER BY m.seq LIMIT 1) AS f ON true
    LEFT JOIN stage_cursors k ON k.stage = 'analytics' AND k.conversation_id = s.conversation_id
), stored AS (
    SELECT s.conversation_id, date_trunc('minute', m.created_at) AS minute, count(*) AS messages
    FROM span s
    JOIN messages m ON m.conversation_id = s.conversation_id AND m.seq > s.before AND m.seq <= s.cursor
        AND m.created_at >= s.minute
    GROUP BY 1, 2
), counted AS (
    SELECT a.* FROM span s JOIN analytics_minutes a ON a.conversation_id = s.conversation_id AND a.minute >= s.minute
)
SELECT conversation_id::text, (extract(epoch FROM minute) * 1000)::bigint,
       coalesce(stored.messages, 0), coalesce(counted.messages, 0)
FROM stored FULL JOIN counted USING (conversation_id, minute);

-- name: positions
SELECT c.conversation_id::text, coalesce(k.seq, 0), c.last_seq
FROM conversations c
LEFT JOIN stage_cursors k ON k.stage = 'analytics' AND k.conversation_id = c.conversation_id
WHERE c.conversation_id = ANY(%(ids)s::uuid[]);

-- name: republished
SELECT h.message_id::text
FROM unnest(%(ids)s::uuid[], %(starts)s::bigint[]) AS s (conversation_id, start)
JOIN audit_heals h ON h.conversation_id = s.conversation_id AND h.seq >= s.start;

-- name: owed
SELECT conversation_id::text, seq, topic FROM outbox
WHERE published_at IS NULL AND created_at < now() - make_interval(secs => %(grace_s)s)
  AND (%(only)s::uuid[] IS NULL OR conversation_id = ANY(%(only)s::uuid[]))
ORDER BY conversation_id, seq;

-- name: uninspected
-- Uploads belong to no conversation; those of more than a day ago are attached, so their messages are judged.
SELECT m.media_id::text FROM media m
WHERE NOT m.kept AND m.created_at >= %(since)s AND m.created_at < now() - make_interval(secs => %(grace_s)s)
  AND %(only)s::uuid[] IS NULL
  AND NOT EXISTS (SELECT 1 FROM media_looks l WHERE l.sha256 = m.sha256)
ORDER BY m.media_id;

-- name: strays
SELECT stage, id, message_id::text, conversation_id::text, seq FROM (
    SELECT 'search' AS stage, d.message_id::text AS id, d.message_id, d.conversation_id, d.seq
    FROM search_documents d WHERE d.message_id >= %(oldest)s::uuid
    UNION ALL
    SELECT 'notification', n.notification_id::text, n.message_id, n.conversation_id, n.seq
    FROM notifications n WHERE n.notification_id >= %(oldest)s::uuid
    UNION ALL
    SELECT 'media', p.message_id || ':' || p.media_id, p.message_id, p.conversation_id, p.seq
    FROM media_places p WHERE p.message_id >= %(oldest)s::uuid
) AS kept
WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.message_id = kept.message_id)
  AND (%(only)s::uuid[] IS NULL OR conversation_id = ANY(%(only)s::uuid[]));

-- name: known_messages
SELECT message_id::text, conversation_id::text, seq FROM messages WHERE message_id = ANY(%(ids)s::uuid[]);

-- name: known_notifications
SELECT notification_id::text, conversation_id::text, seq FROM notifications
WHERE notification_id = ANY(%(ids)s::uuid[]);

-- name: known_media
SELECT id, p.conversation_id::text, p.seq
FROM unnest(%(ids)s::text[]) AS id
JOIN media_places p ON p.message_id = split_part(id, ':', 1)::uuid AND p.media_id = split_part(id, ':', 2)::uuid;

-- name: to_republish
-- What the relay owes anyway is left alone, and so is what is young.
SELECT {message_columns}
FROM messages m
LEFT JOIN outbox o ON o.conversation_id = m.conversation_id AND o.seq = m.seq AND o.part = ''
WHERE m.message_id = ANY(%(ids)s::uuid[]) AND m.created_at < now() - make_interval(secs => %(grace_s)s)
  AND (o.seq IS NULL OR o.published_at IS NOT NULL)
ORDER BY m.conversation_id, m.seq;

-- name: note_republished
INSERT INTO audit_heals (message_id, conversation_id, seq)
SELECT id::uuid, conversation, seq
FROM unnest(%(ids)s::text[], %(conversations)s::uuid[], %(seqs)s::bigint[]) AS again (id, conversation, seq)
ON CONFLICT (message_id) DO UPDATE SET at = now();

-- name: mark_replayed
-- Nobody is told again of what the store has as complete.
UPDATE outbox o SET replay = true
FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[]) AS again (conversation_id, seq)
WHERE o.conversation_id = again.conversation_id AND o.seq = again.seq AND o.part = '';

-- name: forget_notices
-- Their records may be missing in the log, so they are written again.
DELETE FROM notices_published WHERE message_id = ANY(%(ids)s::uuid[]);

-- name: to_refresh
SELECT {message_columns} FROM messages m
WHERE m.message_id = ANY(%(ids)s::uuid[]) AND m.created_at < now() - make_interval(secs => %(grace_s)s)
ORDER BY m.message_id FOR UPDATE;

-- name: refresh_statuses
-- The messages are locked before this statement reads the receipts, so a receipt that comes meanwhile is either read
-- here, or raises the status afterwards.
UPDATE messages m SET status = backed.status
FROM messages same
CROSS JOIN LATERAL (
    SELECT coalesce(max(CASE WHEN r.read_seq >= same.seq THEN 3 WHEN r.delivered_seq >= same.seq THEN 2 END),
                    LEAST(same.status, 1)) AS status
    FROM receipts r WHERE r.conversation_id = same.conversation_id AND r.user_id <> same.sender_id
) AS backed
WHERE m.message_id = ANY(%(ids)s::uuid[]) AND same.message_id = m.message_id AND m.status <> backed.status;

-- name: hold_cursors
-- The stage counts under this lock, so nothing is counted while it is held.
SELECT 1 FROM stage_cursors WHERE stage = 'analytics' AND conversation_id = ANY(%(ids)s::uuid[])
ORDER BY conversation_id FOR UPDATE;

-- name: lower_cursors
UPDATE stage_cursors k SET seq = c.last_seq FROM conversations c
WHERE k.stage = 'analytics' AND k.conversation_id = ANY(%(ids)s::uuid[])
  AND c.conversation_id = k.conversation_id AND k.seq > c.last_seq;

-- name: recount
-- All that is up to the cursor, and nothing else, has been counted: so the store can say what the counts must be.
WITH stored AS (
    SELECT m.conversation_id, date_trunc('minute', m.created_at) AS minute, count(*)::int AS messages
    FROM stage_cursors k
    JOIN messages m ON m.conversation_id = k.conversation_id AND m.seq <= k.seq
    WHERE k.stage = 'analytics' AND k.conversation_id = ANY(%(ids)s::uuid[])
    GROUP BY 1, 2
), gone AS (
    DELETE FROM analytics_minutes a
    WHERE a.conversation_id = ANY(%(ids)s::uuid[])
      AND NOT EXISTS (SELECT 1 FROM stored s WHERE s.conversation_id = a.conversation_id AND s.minute = a.minute)
    RETURNING 1
), changed AS (
    INSERT INTO analytics_minutes AS a (conversation_id, minute, messages)
    SELECT conversation_id, minute, messages FROM stored ORDER BY conversation_id, minute
    ON CONFLICT (conversation_id, minute) DO UPDATE SET messages = excluded.messages
        WHERE a.messages <> excluded.messages
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM changed);

-- name: lead
SELECT pg_try_advisory_lock(%(key)s);
