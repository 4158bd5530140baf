-- name: accept
SELECT nth, seq FROM millrace_accept(%(at)s, %(drafted)s::uuid[], %(drafts)s::json);

-- name: members
SELECT conversation_id::text, user_id
FROM members
JOIN unnest(%(conversations)s::uuid[], %(users)s::text[]) AS wanted (conversation_id, user_id)
    USING (conversation_id, user_id);

-- name: known
-- Each by the index of keys: a join may read the whole table until it is analysed for the first time.
SELECT {message_columns}, m.client_message_id, m.body_hash
FROM unnest(%(users)s::text[], %(keys)s::text[]) AS wanted (user_id, key)
CROSS JOIN LATERAL (
    SELECT * FROM messages WHERE sender_id = wanted.user_id AND client_message_id = wanted.key OFFSET 0) AS m;

-- name: replied
SELECT message_id::text, conversation_id::text FROM messages WHERE message_id = ANY(%(ids)s::uuid[]);

-- name: media
-- The lock keeps an upload from being collected before the message that names it is stored.
SELECT {media_columns} FROM media m LEFT JOIN media_looks l USING (sha256)
WHERE m.media_id = ANY(%(ids)s::uuid[]) FOR KEY SHARE OF m;

-- name: insert_messages
-- Who writes has seen what was said before: it is noted here, since a statement of its own costs twice as much.
WITH writers AS (
    UPDATE members SET has_written = true, seen_seq = wrote.seq, seen_count = wrote.nth
    FROM unnest(%(writers_in)s::uuid[], %(writers)s::text[], %(last_seqs)s::bigint[], %(last_nths)s::bigint[])
        AS wrote (conversation_id, user_id, seq, nth)
    WHERE members.conversation_id = wrote.conversation_id AND members.user_id = wrote.user_id
)
INSERT INTO messages (message_id, conversation_id, seq, sender_id, type, content, attachments, reply_to,
                      client_message_id, body_hash, created_at)
SELECT id, conversation, seq, sender, type, content, attachments::jsonb, reply_to, key, hash, %(at)s
FROM unnest(%(ids)s::uuid[], %(conversations)s::uuid[], %(seqs)s::bigint[], %(senders)s::text[],
            %(types)s::text[], %(contents)s::text[], %(attachments)s::text[], %(replies)s::uuid[],
            %(keys)s::text[], %(hashes)s::bytea[])
    AS draft (id, conversation, seq, sender, type, content, attachments, reply_to, key, hash);

-- name: insert_attachments
INSERT INTO attachments (media_id, message_id, conversation_id, seq)
SELECT media_id, message_id, conversation_id, seq
FROM unnest(%(media)s::uuid[], %(messages)s::uuid[], %(conversations)s::uuid[], %(seqs)s::bigint[])
    AS file (media_id, message_id, conversation_id, seq)
ON CONFLICT DO NOTHING;  -- a message may name a file twice
