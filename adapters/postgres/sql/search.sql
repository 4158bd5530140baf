-- name: stored
SELECT {message_columns} FROM messages m WHERE m.message_id = ANY(%(ids)s::uuid[]) ORDER BY m.message_id;

-- name: put
INSERT INTO search_documents AS d (message_id, conversation_id, seq, sender_id, words, digest, created_at)
SELECT * FROM unnest(%(ids)s::uuid[], %(conversations)s::uuid[], %(seqs)s::bigint[], %(senders)s::text[],
                     %(words)s::tsvector[], %(digests)s::bytea[], %(times)s::timestamptz[])
ON CONFLICT (message_id) DO UPDATE SET
    conversation_id = excluded.conversation_id, seq = excluded.seq, sender_id = excluded.sender_id,
    words = excluded.words, digest = excluded.digest, created_at = excluded.created_at
WHERE (d.conversation_id, d.seq, d.sender_id, d.words, d.digest, d.created_at) IS DISTINCT FROM
      (excluded.conversation_id, excluded.seq, excluded.sender_id, excluded.words, excluded.digest, excluded.created_at);

-- name: forget
DELETE FROM search_documents WHERE message_id = ANY(%(ids)s::uuid[]);

-- name: learn
INSERT INTO search_vocabulary (word) SELECT unnest(%(words)s::text[]) ON CONFLICT DO NOTHING;

-- name: begin_rebuild
INSERT INTO search_rebuilds (version, reached) VALUES (%(version)s, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ON CONFLICT DO NOTHING;

-- name: hold_rebuild
-- Workers of the stage take turns.
SELECT reached::text FROM search_rebuilds WHERE version = %(version)s FOR UPDATE;

-- name: older
SELECT message_id::text FROM messages WHERE message_id < %(reached)s::uuid ORDER BY message_id DESC LIMIT %(most)s;

-- name: note_rebuild
UPDATE search_rebuilds SET reached = %(reached)s::uuid WHERE version = %(version)s;

-- name: bounds
-- For the transaction of a search: without statistics, or with those of a smaller table, the planner would take it for
-- cheap to read the whole table.
SELECT set_config('enable_seqscan', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('jit', 'off', true);

-- name: scope
-- How much the caller may read, how fast it grows, and when something was said last.
SELECT coalesce(sum(c.last_seq - members.hidden_up_to), 0)::float8,
       coalesce(sum(c.last_seq / greatest(extract(epoch FROM c.last_at - c.created_at), 1)), 0)::float8,
       max(c.last_at)
FROM members JOIN conversations c USING (conversation_id)
WHERE members.user_id = %(user_id)s
  AND (%(conversation_id)s::uuid IS NULL OR c.conversation_id = %(conversation_id)s::uuid);

-- name: read
-- Reads the documents of a time in the caller's conversations, each of which is looked up by itself (OFFSET 0 keeps the
-- planner from joining the other way round): nothing that others have said elsewhere is read.
WITH mine AS MATERIALIZED (
    SELECT conversation_id, hidden_up_to FROM members
    WHERE user_id = %(user_id)s
      AND (%(conversation_id)s::uuid IS NULL OR conversation_id = %(conversation_id)s::uuid)
), page AS MATERIALIZED (
    SELECT d.message_id FROM mine CROSS JOIN LATERAL (
        SELECT * FROM search_documents
        WHERE conversation_id = mine.conversation_id
          AND message_id >= %(since)s::uuid AND message_id < %(until)s::uuid
          AND seq > mine.hidden_up_to
        OFFSET 0) AS d
    WHERE d.words @@ %(words)s::tsquery
      AND (%(sender)s::text IS NULL OR d.sender_id = %(sender)s)
      AND (%(after)s::timestamptz IS NULL OR d.created_at >= %(after)s::timestamptz)
      AND (%(before)s::timestamptz IS NULL OR d.created_at < %(before)s::timestamptz)
    ORDER BY d.message_id DESC
    LIMIT %(limit)s
)
SELECT {message_columns} FROM page JOIN messages m USING (message_id) ORDER BY m.message_id DESC;

-- name: look_up
-- For a caller who has much, and words that are rare in the newest of it: all documents with these words, of which those
-- stay that the caller may read. An index led by the conversation would be gone through once for each of them, with
-- every word that begins with the last one.
WITH mine AS MATERIALIZED (
    SELECT conversation_id, hidden_up_to FROM members
    WHERE user_id = %(user_id)s
      AND (%(conversation_id)s::uuid IS NULL OR conversation_id = %(conversation_id)s::uuid)
), page AS MATERIALIZED (
    SELECT d.message_id
    FROM (SELECT * FROM search_documents WHERE words @@ %(words)s::tsquery OFFSET 0) AS d
    JOIN mine ON mine.conversation_id = d.conversation_id AND d.seq > mine.hidden_up_to
    WHERE d.message_id >= %(since)s::uuid AND d.message_id < %(until)s::uuid
      AND (%(sender)s::text IS NULL OR d.sender_id = %(sender)s)
      AND (%(after)s::timestamptz IS NULL OR d.created_at >= %(after)s::timestamptz)
      AND (%(before)s::timestamptz IS NULL OR d.created_at < %(before)s::timestamptz)
    ORDER BY d.message_id DESC
    LIMIT %(limit)s
)
SELECT {message_columns} FROM page JOIN messages m USING (message_id) ORDER BY m.message_id DESC;

-- name: similar
SELECT asked.word, v.word
FROM unnest(%(words)s::text[]) AS asked (word)
CROSS JOIN LATERAL (
    SELECT word FROM search_vocabulary
    WHERE word %% asked.word AND word <> asked.word
    ORDER BY similarity(word, asked.word) DESC, word
    LIMIT %(most)s) AS v;

-- name: similarity
SELECT set_config('pg_trgm.similarity_threshold', '0.25', true), set_config('enable_seqscan', 'off', true);
