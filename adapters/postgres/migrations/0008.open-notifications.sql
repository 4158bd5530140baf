-- Notifications that are not seen yet, by conversation and member.
-- depends: 0007.quotas

CREATE INDEX notifications_open ON notifications (conversation_id, user_id, seq) WHERE seen_at IS NULL;
