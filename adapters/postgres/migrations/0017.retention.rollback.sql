DROP INDEX analytics_minutes_by_minute, dead_letters_closed_by_time, skipped_records_by_time, audit_heals_by_time;
ALTER TABLE log_state ADD COLUMN ends jsonb NOT NULL DEFAULT '{}';
UPDATE log_state s SET ends = (
    SELECT coalesce(jsonb_object_agg(place, reached), '{}')
    FROM (SELECT place, max(reached) AS reached FROM log_ends e WHERE e.epoch = s.epoch GROUP BY place) AS noted);
ALTER TABLE log_state ALTER COLUMN ends DROP DEFAULT;
DROP TABLE log_ends, outbox_floors;
DROP INDEX outbox_unpublished, outbox_owed_again;
ALTER TABLE outbox DROP COLUMN position, DROP COLUMN again;
CREATE INDEX outbox_unpublished ON outbox (shard, conversation_id, seq) WHERE published_at IS NULL;
