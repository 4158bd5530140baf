-- name: put
INSERT INTO search_documents AS d (message_id, conversation_id, seq, sender_id, content, created_at)
SELECT * FROM unnest(%(ids)s::uuid[], %(conversations)s::uuid[], %(seqs)s::bigint[], %(senders)s::text[],
                     %(contents)s::text[], %(times)s::timestamptz[])
ON CONFLICT (message_id) DO UPDATE SET
    conversation_id = excluded.conversation_id, seq = excluded.seq, sender_id = excluded.sender_id,
    content = excluded.content, created_at = excluded.created_at
WHERE (d.conversation_id, d.seq, d.sender_id, d.content, d.created_at)
      IS DISTINCT FROM (excluded.conversation_id, excluded.seq, excluded.sender_id, excluded.content, excluded.created_at);

-- name: bounds
-- For the transaction of a search: without statistics, or with those of a smaller table, the planner would take it for
-- cheap to read the whole table, or to sort a whole conversation for its newest documents.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true),
       set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true);

-- name: search
-- Every part starts from the caller's conversations, each of which is looked up by itself (OFFSET 0 keeps the planner
-- from joining the other way round), so a search reads nothing that others have said elsewhere.
-- Words with prefixes come first. Then parts of words, for languages without spaces, and only when no words are found
-- trigrams, for typing errors: both in the newest documents.
WITH mine AS MATERIALIZED (
    SELECT c.conversation_id, c.last_at, members.hidden_up_to,
           sum(c.last_seq) OVER (ORDER BY c.last_seq, c.conversation_id) <= %(read)s AS is_read
    FROM members JOIN conversations c USING (conversation_id)
    WHERE members.user_id = %(user_id)s
      AND (%(conversation_id)s::uuid IS NULL OR c.conversation_id = %(conversation_id)s::uuid)
), with_words AS MATERIALIZED (
    SELECT d.message_id, d.created_at, d.words
    FROM mine CROSS JOIN LATERAL (
        -- The index of words holds those of all conversations side by side, and a prefix goes through all that begin
        -- with it. So short conversations are read whole; the index is for the longest ones of a caller who has much.
        SELECT * FROM (
            SELECT * FROM search_documents
            WHERE conversation_id = mine.conversation_id AND seq > mine.hidden_up_to AND is_read OFFSET 0) AS read
        WHERE words @@ to_tsquery('simple', public.unaccent(%(words)s))
        UNION ALL
        SELECT * FROM search_documents
        WHERE conversation_id = mine.conversation_id AND seq > mine.hidden_up_to AND NOT is_read
          AND words @@ to_tsquery('simple', public.unaccent(%(words)s))
        OFFSET 0) AS d
    WHERE (%(sender)s::text IS NULL OR d.sender_id = %(sender)s)
      AND (%(after)s::timestamptz IS NULL OR d.created_at >= %(after)s::timestamptz)
      AND (%(before)s::timestamptz IS NULL OR d.created_at < %(before)s::timestamptz)
    ORDER BY d.created_at DESC, d.message_id
    LIMIT %(ranked)s
), newest AS (
    SELECT d.*, sum(length(d.content)) OVER (ROWS UNBOUNDED PRECEDING) <= %(compared)s AS is_compared
    FROM (SELECT * FROM mine ORDER BY last_at DESC) AS mine
    CROSS JOIN LATERAL (
        SELECT message_id, created_at, content, words FROM search_documents
        WHERE conversation_id = mine.conversation_id AND seq > mine.hidden_up_to
          AND (%(sender)s::text IS NULL OR sender_id = %(sender)s)
          AND (%(after)s::timestamptz IS NULL OR created_at >= %(after)s::timestamptz)
          AND (%(before)s::timestamptz IS NULL OR created_at < %(before)s::timestamptz)
        ORDER BY seq DESC LIMIT %(scanned)s) AS d
    LIMIT %(scanned)s
), page AS (
    SELECT message_id, created_at, score FROM (
        SELECT message_id, created_at,
               ts_rank(words, to_tsquery('simple', public.unaccent(%(words)s)))::float8 AS score
        FROM with_words
        UNION ALL
        SELECT message_id, created_at, CASE WHEN is_compared THEN word_similarity(%(q)s, content) ELSE 0 END
                                       * CASE WHEN EXISTS (SELECT FROM with_words) THEN 0.01 ELSE 1 END
        FROM newest
        WHERE (content ILIKE %(like)s AND NOT words @@ to_tsquery('simple', public.unaccent(%(words)s)))
           OR (NOT EXISTS (SELECT FROM with_words) AND is_compared AND %(q)s <%% content)) AS hits
    ORDER BY score DESC, created_at DESC, message_id
    LIMIT %(limit)s OFFSET %(offset)s
)
SELECT {message_columns},
       ts_headline('simple', replace(replace(replace(m.content, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'),
                   to_tsquery('simple', public.unaccent(%(words)s)),
                   'StartSel=<mark>, StopSel=</mark>, MaxWords=40, MinWords=15') AS highlight,
       page.score
FROM page JOIN messages m USING (message_id)
ORDER BY page.score DESC, page.created_at DESC, page.message_id;
