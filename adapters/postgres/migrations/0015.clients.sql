-- depends: 0014.read-state
-- Answers to calls that were made with an idempotency key, so that a repetition gets the same.

CREATE TABLE idempotency_keys (
    user_id      text        NOT NULL,
    key          text        NOT NULL,
    request_hash bytea       NOT NULL,
    status       smallint    NOT NULL,
    ends         timestamptz NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_by_end ON idempotency_keys (ends);
