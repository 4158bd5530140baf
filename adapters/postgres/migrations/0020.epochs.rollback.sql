DROP FUNCTION millrace_epoch();
ALTER TABLE conversations DROP COLUMN epoch;
DROP TABLE epoch_starts, store_epochs;
