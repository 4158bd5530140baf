-- Tokens that end before their time, and tickets that stand for a token once.

-- jti is null when all tokens of the user are meant that were issued until then. closed: connections ended for it.
CREATE TABLE revocations (
    revocation_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id       text        NOT NULL,
    jti           text,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    ends          timestamptz NOT NULL,
    closed        int         NOT NULL DEFAULT 0
);
CREATE INDEX revocations_by_time ON revocations (at);
CREATE INDEX revocations_by_end ON revocations (ends);

-- They live for 30 s: one that a crash takes is asked for again, so they cost no WAL.
CREATE UNLOGGED TABLE tickets (
    ticket_hash      bytea            PRIMARY KEY,
    user_id          text             NOT NULL,
    jti              text             NOT NULL,
    issued_at        double precision NOT NULL,
    token_expires_at double precision NOT NULL,
    origin           text,
    ends             timestamptz      NOT NULL
);
CREATE INDEX tickets_by_end ON tickets (ends);
