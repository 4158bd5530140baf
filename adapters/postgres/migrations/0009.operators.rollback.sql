DROP TABLE operator_actions, skipped_records, notices_published;
ALTER TABLE outbox DROP COLUMN replay;
ALTER TABLE dead_letters_closed DROP COLUMN outcome, DROP COLUMN reason;
ALTER TABLE dead_letters_closed RENAME COLUMN closed_at TO replayed_at;
ALTER TABLE dead_letters_closed RENAME TO dead_letters_replayed;
