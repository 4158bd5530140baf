-- The rights of each role, and nothing beside them: `millrace setup` takes everything else away.
-- A column is named where a role may read or change no other one. SELECT … FOR UPDATE needs UPDATE of one column.

-- name: database
-- Sessions in PostgreSQL may make temporary tables, unless told otherwise; before version 15, tables for good too.
REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;
REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC;

-- name: ingest
-- Accepts and stores, answers reads, and is the relay: the outbox and the position of the log are its own.
GRANT CONNECT ON DATABASE {database} TO {role};
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE (member_count) ON conversations TO {role};
GRANT SELECT (id, number, server) ON store_epochs TO {role};
GRANT SELECT ON epoch_starts TO {role};
GRANT EXECUTE ON FUNCTION millrace_epoch, millrace_append, millrace_accept TO {role};
GRANT SELECT, INSERT, UPDATE (has_written, seen_seq, seen_count), DELETE ON members TO {role};
GRANT SELECT, INSERT, UPDATE (ended_by, at), DELETE ON former_members TO {role};
GRANT SELECT, INSERT, DELETE ON invitations TO {role};
GRANT SELECT, INSERT ON declined_inviters TO {role};
GRANT SELECT, INSERT ON messages TO {role};
GRANT SELECT ON changes TO {role};
GRANT SELECT, INSERT, DELETE,
      UPDATE (topic, value, event_id, created_at, published_at, replay, position, again) ON outbox TO {role};
GRANT SELECT, USAGE ON SEQUENCE outbox_position_seq TO {role};
GRANT SELECT, INSERT, DELETE ON outbox_floors TO {role};
GRANT SELECT, INSERT, UPDATE (cluster_id, replication, epoch, noted_at) ON log_state TO {role};
GRANT SELECT, INSERT, DELETE ON log_ends TO {role};
GRANT SELECT ON receipts TO {role};
GRANT SELECT, INSERT, UPDATE (kept), DELETE ON media TO {role};
GRANT SELECT, INSERT, UPDATE (stored, day, today) ON media_usage TO {role};
GRANT SELECT, DELETE ON media_looks TO {role};
GRANT SELECT, INSERT, DELETE ON media_unused TO {role};
GRANT SELECT, INSERT ON attachments TO {role};
GRANT SELECT ON search_documents TO {role};
GRANT SELECT ON search_vocabulary TO {role};
GRANT SELECT, UPDATE (seen_at) ON notifications TO {role};
GRANT SELECT ON analytics_minutes TO {role};
GRANT SELECT (ticket_hash, user_id, ends), INSERT, UPDATE (ends), DELETE ON tickets TO {role};
GRANT SELECT ON revocations TO {role};
GRANT SELECT, INSERT, UPDATE (request_hash, status, ends), DELETE ON idempotency_keys TO {role};

-- name: streams
-- Reads what is stored and writes what the stages keep. Of the outbox it may only add events of its own.
GRANT CONNECT ON DATABASE {database} TO {role};
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT (conversation_id, last_seq, message_count, member_count), UPDATE (last_seq) ON conversations TO {role};
GRANT EXECUTE ON FUNCTION millrace_append TO {role};
GRANT SELECT (conversation_id, user_id, joined_seq, seen_seq) ON members TO {role};
GRANT SELECT (message_id, conversation_id, seq, sender_id, type, content, attachments, reply_to, created_at, status),
      UPDATE (status) ON messages TO {role};
GRANT SELECT, INSERT, UPDATE (delivered_seq, read_seq, read_count, delivered_at, read_at) ON receipts TO {role};
GRANT SELECT, INSERT, UPDATE (delivered_seq, read_seq, at), DELETE ON device_receipts TO {role};
GRANT SELECT, INSERT, UPDATE (seen_at), DELETE ON notifications TO {role};
GRANT SELECT, INSERT, UPDATE (last_number) ON inboxes TO {role};
GRANT SELECT, INSERT, UPDATE (epoch, published_at), DELETE ON notices_published TO {role};
GRANT SELECT, INSERT, UPDATE (due_at), DELETE ON notifications_due TO {role};
GRANT SELECT, INSERT, UPDATE (seq) ON stage_cursors TO {role};
GRANT SELECT, INSERT, UPDATE (messages), DELETE ON analytics_minutes TO {role};
GRANT SELECT ON media TO {role};
GRANT SELECT, INSERT ON media_looks TO {role};
GRANT SELECT, INSERT ON media_places TO {role};
GRANT SELECT, INSERT, UPDATE (conversation_id, seq, sender_id, words, digest, created_at), DELETE
      ON search_documents TO {role};
GRANT INSERT ON search_vocabulary TO {role};
GRANT SELECT, INSERT, UPDATE (reached) ON search_rebuilds TO {role};
GRANT SELECT (epoch) ON log_state TO {role};
GRANT SELECT, INSERT, UPDATE (epoch) ON stage_epochs TO {role};
GRANT SELECT, INSERT, UPDATE (failures, letters), DELETE ON parked TO {role};
GRANT SELECT (reader, topic, partition, log_offset, digest) ON skipped_records TO {role};

-- name: gateway
-- Reads what members may see. It writes one number, that of the connections which it closed.
GRANT CONNECT ON DATABASE {database} TO {role};
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT (conversation_id, title, created_by, created_at, last_seq, last_at, member_count)
      ON conversations TO {role};
GRANT SELECT (id, number, server) ON store_epochs TO {role};
GRANT SELECT ON epoch_starts TO {role};
GRANT SELECT (conversation_id, user_id, joined_seq, has_written, hidden_up_to) ON members TO {role};
GRANT SELECT (conversation_id, user_id) ON invitations TO {role};
GRANT SELECT (message_id, conversation_id, seq, sender_id, type, content, attachments, reply_to, created_at, status)
      ON messages TO {role};
GRANT SELECT (conversation_id, seq, kind, message_id, data) ON changes TO {role};
GRANT SELECT ON receipts TO {role};
GRANT SELECT (conversation_id, user_id, device, delivered_seq, read_seq) ON device_receipts TO {role};
GRANT SELECT (notification_id, user_id, conversation_id, message_id, seq, channel, created_at)
      ON notifications TO {role};
GRANT SELECT, UPDATE (closed) ON revocations TO {role};
GRANT SELECT (reader, topic, partition, log_offset, digest) ON skipped_records TO {role};
GRANT EXECUTE ON FUNCTION millrace_redeem_ticket TO {role};

-- name: audit
-- Reads. What operators' records have outlived their time is deleted by functions that delete nothing younger.
GRANT CONNECT ON DATABASE {database} TO {role};
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT (conversation_id, last_seq, last_at) ON conversations TO {role};
GRANT SELECT (id, number, server) ON store_epochs TO {role};
GRANT SELECT ON messages TO {role};
GRANT SELECT (conversation_id, seq, kind, message_id, at) ON changes TO {role};
GRANT SELECT (conversation_id, seq, part, topic, event_id, created_at, published_at) ON outbox TO {role};
GRANT SELECT (conversation_id, user_id, delivered_seq, read_seq) ON receipts TO {role};
GRANT SELECT (media_id, sha256, created_at, kept) ON media TO {role};
GRANT SELECT (sha256) ON media_looks TO {role};
GRANT SELECT (message_id, media_id, conversation_id, seq) ON media_places TO {role};
GRANT SELECT (message_id, conversation_id, seq, sender_id, digest) ON search_documents TO {role};
GRANT SELECT (notification_id, message_id, conversation_id, seq) ON notifications TO {role};
GRANT SELECT (stage, conversation_id, seq) ON stage_cursors TO {role};
GRANT SELECT ON analytics_minutes TO {role};
GRANT SELECT (message_id, conversation_id, seq) ON audit_heals TO {role};
GRANT SELECT (letter_id, stage, outcome, reason) ON dead_letters_closed TO {role};
GRANT EXECUTE ON FUNCTION millrace_prune_revocations, millrace_prune_dead_letters_closed,
    millrace_prune_skipped_records, millrace_prune_audit_heals, millrace_prune_operator_actions TO {role};

-- name: operator
-- What the commands do: audit and heal, publish again, close dead letters, step over records, end tokens.
GRANT CONNECT ON DATABASE {database} TO {role};
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT (conversation_id, last_seq, last_at) ON conversations TO {role};
GRANT SELECT, UPDATE (status) ON messages TO {role};
GRANT SELECT (conversation_id, seq, kind, message_id, at) ON changes TO {role};
GRANT SELECT, INSERT, UPDATE (topic, value, event_id, published_at, replay, position, again) ON outbox TO {role};
GRANT USAGE ON SEQUENCE outbox_position_seq TO {role};
GRANT SELECT (conversation_id, user_id, delivered_seq, read_seq) ON receipts TO {role};
GRANT SELECT (media_id, sha256, created_at, kept) ON media TO {role};
GRANT SELECT (sha256) ON media_looks TO {role};
GRANT SELECT (message_id, media_id, conversation_id, seq) ON media_places TO {role};
GRANT SELECT, INSERT, UPDATE (conversation_id, seq, sender_id, words, digest, created_at), DELETE
      ON search_documents TO {role};
GRANT INSERT ON search_vocabulary TO {role};
GRANT SELECT (notification_id, message_id, conversation_id, seq) ON notifications TO {role};
GRANT SELECT (message_id), DELETE ON notices_published TO {role};
GRANT SELECT (stage, conversation_id, seq), UPDATE (seq) ON stage_cursors TO {role};
GRANT SELECT, INSERT, UPDATE (messages), DELETE ON analytics_minutes TO {role};
GRANT SELECT (message_id, conversation_id, seq), INSERT, UPDATE (at) ON audit_heals TO {role};
GRANT SELECT (stage, conversation_id, failures, letters) ON parked TO {role};
GRANT SELECT, INSERT ON dead_letters_closed TO {role};
GRANT SELECT, INSERT, UPDATE (digest, skipped_at) ON skipped_records TO {role};
GRANT SELECT, INSERT ON revocations TO {role};
GRANT SELECT (action_id), INSERT, UPDATE (result) ON operator_actions TO {role};
