-- Messages that may not have reached some member who looked connected: who needs a notification is decided when due.
-- depends: 0015.clients

-- Each row lives for some seconds, so dead rows are removed early.
CREATE TABLE notifications_due (
    message_id      uuid        PRIMARY KEY,
    conversation_id uuid        NOT NULL,
    due_at          timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX notifications_due_by_time ON notifications_due (due_at);
