-- name: no_hurry
-- What is kept may be millions of rows, and ingest may hold a conversation for a while.
SELECT set_config('statement_timeout', '15min', false), set_config('lock_timeout', '30s', false);

-- name: alone
SELECT pg_try_advisory_lock(%(key)s);

-- name: prepare
CREATE TEMPORARY TABLE IF NOT EXISTS kept (
    nth bigint GENERATED ALWAYS AS IDENTITY, key uuid NOT NULL, topic text NOT NULL, event_id text NOT NULL,
    value bytea NOT NULL, UNIQUE (topic, event_id, value));

-- name: state
SELECT cluster_id, epoch FROM log_state;

-- name: keep
INSERT INTO kept (key, topic, event_id, value)
SELECT key, topic, event_id, value
FROM unnest(%(keys)s::uuid[], %(topics)s::text[], %(ids)s::text[], %(values)s::bytea[]) AS e (key, topic, event_id, value)
ON CONFLICT DO NOTHING;

-- name: lacking_media
-- Places in the arrays of files whose announcement the store lacks.
SELECT nth FROM unnest(%(messages)s::uuid[], %(media)s::uuid[]) WITH ORDINALITY AS e (message_id, media_id, nth)
WHERE NOT EXISTS (SELECT FROM media_places p WHERE p.message_id = e.message_id AND p.media_id = e.media_id);

-- name: lacking_uploads
SELECT nth FROM unnest(%(media)s::uuid[]) WITH ORDINALITY AS e (media_id, nth)
WHERE NOT EXISTS (SELECT FROM media m WHERE m.media_id = e.media_id);

-- name: span
SELECT min(at), max(at)
FROM (SELECT (coalesce(e->'message'->>'createdAt', e->>'at'))::timestamptz AS at
      FROM kept, LATERAL (SELECT convert_from(value, 'UTF8')::jsonb) AS event (e)) AS times;

-- name: conversations
SELECT key::text FROM kept WHERE topic <> %(uploads)s GROUP BY key ORDER BY min(nth);

-- name: of_conversation
SELECT topic, value FROM kept WHERE key = %(id)s::uuid AND topic <> %(uploads)s ORDER BY nth;

-- name: uploads
SELECT value FROM kept WHERE topic = %(uploads)s ORDER BY nth;

-- name: uploads_of
SELECT value FROM kept WHERE topic = %(uploads)s AND event_id = ANY(%(ids)s);

-- name: resent
-- Keys that the senders have used again since.
SELECT m.sender_id, m.client_message_id FROM messages m
JOIN unnest(%(users)s::text[], %(keys)s::text[]) AS e (user_id, key)
    ON m.sender_id = e.user_id AND m.client_message_id = e.key;

-- name: create
INSERT INTO conversations (conversation_id, title, created_by, created_at, member_count, request_hash)
VALUES (%(conversation_id)s::uuid, %(title)s, %(owner)s, %(at)s, %(count)s, %(request_hash)s);

-- name: create_invitations
INSERT INTO invitations (conversation_id, user_id, invited_by)
SELECT %(conversation_id)s::uuid, user_id, %(by)s FROM unnest(%(users)s::text[]) AS user_id ON CONFLICT DO NOTHING;

-- name: insert_messages
WITH writers AS (
    UPDATE members SET has_written = true, seen_seq = greatest(seen_seq, wrote.seq),
        seen_count = greatest(seen_count, wrote.nth)
    FROM unnest(%(writers)s::text[], %(last_seqs)s::bigint[], %(last_nths)s::bigint[]) AS wrote (user_id, seq, nth)
    WHERE members.conversation_id = %(conversation_id)s::uuid AND members.user_id = wrote.user_id
)
INSERT INTO messages (message_id, conversation_id, seq, sender_id, type, content, attachments, reply_to,
                      client_message_id, body_hash, created_at)
SELECT id, %(conversation_id)s::uuid, seq, sender, type, content, attachments::jsonb, reply_to, key, hash, at
FROM unnest(%(ids)s::uuid[], %(seqs)s::bigint[], %(senders)s::text[], %(types)s::text[], %(contents)s::text[],
            %(attachments)s::text[], %(replies)s::uuid[], %(keys)s::text[], %(hashes)s::bytea[],
            %(times)s::timestamptz[])
    AS e (id, seq, sender, type, content, attachments, reply_to, key, hash, at);

-- name: insert_attachments
-- Of files that the store has: those of others are named in the message, and cannot be read.
INSERT INTO attachments (media_id, message_id, conversation_id, seq)
SELECT e.media_id, e.message_id, %(conversation_id)s::uuid, e.seq
FROM unnest(%(media)s::uuid[], %(messages)s::uuid[], %(seqs)s::bigint[]) AS e (media_id, message_id, seq)
JOIN media USING (media_id)
ON CONFLICT DO NOTHING;

-- name: insert_place
INSERT INTO media_places (message_id, media_id, conversation_id, seq, event)
VALUES (%(message_id)s::uuid, %(media_id)s::uuid, %(conversation_id)s::uuid, %(seq)s, %(event)s::jsonb);

-- name: count_members
UPDATE conversations SET member_count = (
    SELECT count(*) FROM members m WHERE m.conversation_id = conversations.conversation_id)
WHERE conversation_id = %(conversation_id)s::uuid;

-- name: mark_replayed
-- They were published before.
UPDATE outbox SET replay = true
WHERE conversation_id = %(conversation_id)s::uuid AND seq = ANY(%(seqs)s::bigint[]) AND part = '';

-- name: share
-- Up to here the epoch is as the ones before it: what it began with has come back.
UPDATE epoch_starts SET seq = %(shared)s
WHERE conversation_id = %(conversation_id)s::uuid AND epoch = millrace_epoch() AND seq = %(head)s;

-- name: head
SELECT c.last_seq FROM conversations c JOIN members m USING (conversation_id)
WHERE c.conversation_id = %(conversation_id)s::uuid AND m.user_id = %(user_id)s;

-- name: note_epochs
-- Epochs that this store never had: a cursor of theirs holds as far as one of the last epoch before them.
INSERT INTO store_epochs (id, number)
SELECT id, (SELECT coalesce(max(number), 0) FROM store_epochs WHERE server IS NOT NULL AND began_at <= %(before)s)
FROM unnest(%(ids)s::text[]) AS id
ON CONFLICT DO NOTHING;
