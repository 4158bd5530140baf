-- depends: 0013.search
-- What members have read, in counts: unread is the difference of two of them, and no message is counted for it.
ALTER TABLE conversations ADD COLUMN message_count bigint NOT NULL DEFAULT 0;
-- Up to seen_seq nothing is unread to a member without any receipt: it was said before they joined, or before they
-- last wrote. seen_count and read_count: messages of the conversation up to that seq, and up to read_seq.
ALTER TABLE members
    ADD COLUMN seen_seq   bigint NOT NULL DEFAULT 0,
    ADD COLUMN seen_count bigint NOT NULL DEFAULT 0;
ALTER TABLE receipts ADD COLUMN read_count bigint NOT NULL DEFAULT 0;
-- Every message updates the row of its sender: in the room that is left, no index is written for it.
ALTER TABLE members SET (fillfactor = 80);

CREATE TEMPORARY TABLE counted ON COMMIT DROP AS
SELECT conversation_id, seq, sender_id, row_number() OVER (PARTITION BY conversation_id ORDER BY seq) AS nth
FROM messages;
CREATE INDEX counted_by_place ON counted (conversation_id, seq);
ANALYZE counted;
UPDATE conversations c SET message_count = m.messages
FROM (SELECT conversation_id, max(nth) AS messages FROM counted GROUP BY conversation_id) AS m
WHERE m.conversation_id = c.conversation_id;
UPDATE members m SET seen_seq = greatest(m.joined_seq, w.seq)
FROM members same
LEFT JOIN (SELECT conversation_id, sender_id AS user_id, max(seq) AS seq FROM counted GROUP BY 1, 2) AS w
    USING (conversation_id, user_id)
WHERE m.conversation_id = same.conversation_id AND m.user_id = same.user_id;
UPDATE members m SET seen_count = coalesce((
    SELECT nth FROM counted u WHERE u.conversation_id = m.conversation_id AND u.seq <= m.seen_seq
    ORDER BY u.seq DESC LIMIT 1), 0)
WHERE seen_seq > 0;
UPDATE receipts r SET read_count = coalesce((
    SELECT nth FROM counted u WHERE u.conversation_id = r.conversation_id AND u.seq <= r.read_seq
    ORDER BY u.seq DESC LIMIT 1), 0)
WHERE read_seq > 0;

-- A user's notifications are numbered under the lock of the user's inbox, so the order of numbers is that of commits.
CREATE TABLE inboxes (
    user_id     text   PRIMARY KEY,
    last_number bigint NOT NULL
) WITH (fillfactor = 80);
ALTER TABLE notifications ADD COLUMN number bigint;
UPDATE notifications n SET number = numbered.number
FROM (SELECT notification_id, row_number() OVER (PARTITION BY user_id ORDER BY notification_id) AS number
      FROM notifications) AS numbered
WHERE numbered.notification_id = n.notification_id;
ALTER TABLE notifications ALTER COLUMN number SET NOT NULL;
INSERT INTO inboxes (user_id, last_number) SELECT user_id, max(number) FROM notifications GROUP BY user_id;
DROP INDEX notifications_by_user;
CREATE UNIQUE INDEX notifications_by_user ON notifications (user_id, number);
CREATE INDEX notifications_unseen ON notifications (user_id, number) WHERE seen_at IS NULL;
-- What was read is seen.
UPDATE notifications n SET seen_at = now()
FROM members m LEFT JOIN receipts r USING (conversation_id, user_id)
WHERE m.conversation_id = n.conversation_id AND m.user_id = n.user_id AND n.seen_at IS NULL
  AND n.seq <= greatest(r.read_seq, m.seen_seq);
