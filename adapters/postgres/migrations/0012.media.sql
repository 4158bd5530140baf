-- Files are inspected when they are complete: a message carries what is known of its files when it is accepted.
-- depends: 0011.roles

ALTER TABLE media_looks
    ADD COLUMN duration_ms bigint,
    ADD COLUMN blurhash    text,
    ADD COLUMN served      text CHECK (served IN ('clean', 'original', 'none'));
UPDATE media_looks SET served = CASE
    WHEN clean THEN 'clean'
    WHEN media_type ~ '^(image|audio|video)/' THEN 'none'
    ELSE 'original' END;
UPDATE media_looks SET error = 'no copy without metadata was made of it' WHERE served = 'none' AND error IS NULL;
ALTER TABLE media_looks ALTER COLUMN served SET NOT NULL;

-- kept: it was attached when it was judged, a day after its completion; until then it may be collected.
ALTER TABLE media ADD COLUMN kept boolean NOT NULL DEFAULT false;
CREATE INDEX media_to_judge ON media (created_at) WHERE NOT kept;
CREATE INDEX media_by_content ON media (sha256);

-- Contents that no upload has any more; their files are deleted next.
CREATE TABLE media_unused (
    sha256 text PRIMARY KEY
);

-- The key of an event's record is its conversation; an upload belongs to none, so that of its event is the upload.
COMMENT ON COLUMN outbox.conversation_id IS 'Key of the record: the conversation, or the upload of media.uploaded';

-- Files of messages: who may read a message may read them.
CREATE TABLE attachments (
    media_id        uuid   NOT NULL REFERENCES media,
    message_id      uuid   NOT NULL,
    conversation_id uuid   NOT NULL,
    seq             bigint NOT NULL,
    PRIMARY KEY (media_id, message_id)
);
INSERT INTO attachments (media_id, message_id, conversation_id, seq)
SELECT DISTINCT media.media_id, m.message_id, m.conversation_id, m.seq
FROM messages m CROSS JOIN unnest(m.attachments) AS id JOIN media ON media.media_id = id::uuid;
UPDATE media m SET kept = true WHERE EXISTS (SELECT 1 FROM attachments a WHERE a.media_id = m.media_id);

-- Entries of the change log, and the events of their stage, say what those of later attachments say.
UPDATE changes c SET data = told.data || c.data
FROM media m JOIN media_looks l USING (sha256), LATERAL (
    SELECT jsonb_build_object('name', m.file_name, 'size', m.size, 'durationMs', NULL, 'blurhash', NULL,
                              'available', l.served <> 'none') AS data) AS told
WHERE c.kind = 'media_ready' AND m.media_id = (c.data->>'mediaId')::uuid;
UPDATE media_places p SET event = told.data || p.event
FROM media m JOIN media_looks l USING (sha256), LATERAL (
    SELECT jsonb_build_object('name', m.file_name, 'size', m.size, 'durationMs', NULL, 'blurhash', NULL,
                              'available', l.served <> 'none') AS data) AS told
WHERE m.media_id = p.media_id;

-- What is known of them, frozen; null for the many messages that have none.
ALTER TABLE messages ADD COLUMN files jsonb;
UPDATE messages SET files = (
    SELECT jsonb_agg(jsonb_build_object(
               'mediaId', media.media_id, 'name', media.file_name,
               'type', coalesce(l.media_type, nullif(media.declared_type, ''), 'application/octet-stream'),
               'size', media.size, 'width', l.width, 'height', l.height, 'durationMs', l.duration_ms,
               'blurhash', l.blurhash, 'thumbnail', coalesce(l.thumbnail, false)) ORDER BY nth)
    FROM unnest(attachments) WITH ORDINALITY AS named (id, nth)
    JOIN media ON media.media_id = id::uuid
    LEFT JOIN media_looks l USING (sha256))
WHERE attachments <> '{}';
ALTER TABLE messages DROP COLUMN attachments;
ALTER TABLE messages RENAME COLUMN files TO attachments;
