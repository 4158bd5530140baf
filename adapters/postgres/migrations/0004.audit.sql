-- Messages that an audit handed to the relay again: their place in the topics is a late one, and known to be.

CREATE TABLE audit_heals (
    message_id      uuid        PRIMARY KEY,
    conversation_id uuid        NOT NULL,
    seq             bigint      NOT NULL,
    at              timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_heals_by_place ON audit_heals (conversation_id, seq);
