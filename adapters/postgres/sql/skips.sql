-- name: of
SELECT topic, partition, log_offset, digest FROM skipped_records WHERE reader = %(reader)s;

-- name: add
INSERT INTO skipped_records (reader, topic, partition, log_offset, digest)
VALUES (%(reader)s, %(topic)s, %(partition)s, %(offset)s, %(digest)s)
ON CONFLICT (reader, topic, partition, log_offset) DO UPDATE SET digest = excluded.digest, skipped_at = now();
