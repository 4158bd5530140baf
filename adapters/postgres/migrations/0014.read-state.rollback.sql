DROP INDEX notifications_unseen, notifications_by_user;
CREATE INDEX notifications_by_user ON notifications (user_id, notification_id DESC);
ALTER TABLE notifications DROP COLUMN number;
DROP TABLE inboxes;
ALTER TABLE members RESET (fillfactor);
ALTER TABLE receipts DROP COLUMN read_count;
ALTER TABLE members DROP COLUMN seen_seq, DROP COLUMN seen_count;
ALTER TABLE conversations DROP COLUMN message_count;
