ALTER TABLE messages ADD COLUMN ids text[] NOT NULL DEFAULT '{}';
UPDATE messages SET ids = ARRAY(
    SELECT file->>'mediaId' FROM jsonb_array_elements(attachments) WITH ORDINALITY AS named (file, nth) ORDER BY nth)
WHERE attachments IS NOT NULL;
ALTER TABLE messages DROP COLUMN attachments;
ALTER TABLE messages RENAME COLUMN ids TO attachments;
COMMENT ON COLUMN outbox.conversation_id IS NULL;
DROP TABLE attachments, media_unused;
DROP INDEX media_to_judge, media_by_content;
ALTER TABLE media DROP COLUMN kept;
ALTER TABLE media_looks DROP COLUMN duration_ms, DROP COLUMN blurhash, DROP COLUMN served;
