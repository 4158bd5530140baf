ALTER TABLE conversations DROP COLUMN request_hash;
DROP TABLE declined_inviters, invitations, former_members;
ALTER TABLE members DROP COLUMN has_written, DROP COLUMN hidden_up_to;
