DROP TABLE receipts, outbox, changes, messages, members, conversations;
