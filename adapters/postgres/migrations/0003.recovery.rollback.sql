DROP TABLE stage_epochs, device_receipts, dead_letters_replayed, parked, log_state;
DELETE FROM outbox WHERE part <> '';
ALTER TABLE outbox DROP CONSTRAINT outbox_pkey, ADD PRIMARY KEY (conversation_id, seq);
ALTER TABLE outbox DROP COLUMN part;
