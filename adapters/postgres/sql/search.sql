-- name: put
INSERT INTO search_documents AS d (message_id, conversation_id, seq, sender_id, content, created_at)
SELECT * FROM unnest(%(ids)s::uuid[], %(conversations)s::uuid[], %(seqs)s::bigint[], %(senders)s::text[],
                     %(contents)s::text[], %(times)s::timestamptz[])
ON CONFLICT (message_id) DO UPDATE SET
    conversation_id = excluded.conversation_id, seq = excluded.seq, sender_id = excluded.sender_id,
    content = excluded.content, created_at = excluded.created_at
WHERE (d.conversation_id, d.seq, d.sender_id, d.content, d.created_at)
      IS DISTINCT FROM (excluded.conversation_id, excluded.seq, excluded.sender_id, excluded.content, excluded.created_at);

-- name: search
-- Words with prefixes first; trigrams find typing errors and languages without spaces. Members only.
WITH asked AS (
    SELECT to_tsquery('simple', %(words)s) AS words
)
SELECT {message_columns},
       ts_headline('simple', replace(replace(replace(m.content, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'),
                   asked.words, 'StartSel=<mark>, StopSel=</mark>, MaxWords=40, MinWords=15') AS highlight,
       (ts_rank(d.words, asked.words) + word_similarity(%(q)s, d.content))::float8 AS score
FROM search_documents d
CROSS JOIN asked
JOIN members ON members.conversation_id = d.conversation_id AND members.user_id = %(user_id)s
JOIN messages m ON m.message_id = d.message_id
WHERE (d.words @@ asked.words OR %(q)s <%% d.content OR d.content ILIKE %(like)s)
  AND (%(conversation_id)s::uuid IS NULL OR d.conversation_id = %(conversation_id)s::uuid)
  AND (%(sender)s::text IS NULL OR d.sender_id = %(sender)s)
  AND (%(after)s::timestamptz IS NULL OR d.created_at >= %(after)s::timestamptz)
  AND (%(before)s::timestamptz IS NULL OR d.created_at < %(before)s::timestamptz)
ORDER BY score DESC, d.created_at DESC, d.message_id
LIMIT %(limit)s OFFSET %(offset)s;
