-- Conversations, members, messages, the change log and the outbox.
-- The row lock on a conversation makes commit order equal seq order.

CREATE TABLE conversations (
    conversation_id uuid PRIMARY KEY,
    title           text,
    created_by      text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    last_seq        bigint      NOT NULL DEFAULT 0,
    last_at         timestamptz NOT NULL DEFAULT now(),
    member_count    int         NOT NULL DEFAULT 0
);

CREATE TABLE members (
    conversation_id uuid        NOT NULL REFERENCES conversations,
    user_id         text        NOT NULL,
    role            text        NOT NULL CHECK (role IN ('owner', 'member')),
    joined_seq      bigint      NOT NULL,
    joined_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX members_by_user ON members (user_id, conversation_id);

-- status: 0 pending, 1 sent, 2 delivered, 3 read; only ever raised.
CREATE TABLE messages (
    message_id        uuid        PRIMARY KEY,
    conversation_id   uuid        NOT NULL REFERENCES conversations,
    seq               bigint      NOT NULL,
    sender_id         text        NOT NULL,
    type              text        NOT NULL,
    content           text        NOT NULL,
    attachments       text[]      NOT NULL DEFAULT '{}',
    reply_to          uuid,
    client_message_id text,
    body_hash         bytea       NOT NULL,
    status            smallint    NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (conversation_id, seq)
);
CREATE UNIQUE INDEX messages_idempotency ON messages (sender_id, client_message_id)
    WHERE client_message_id IS NOT NULL;

-- Every content change takes one seq. data holds what a frame of a change other than a message says.
CREATE TABLE changes (
    conversation_id uuid        NOT NULL REFERENCES conversations,
    seq             bigint      NOT NULL,
    kind            text        NOT NULL,
    message_id      uuid,
    data            jsonb,
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, seq)
);

-- What the relay owes to Kafka. Rows are chosen by state, never by position.
CREATE TABLE outbox (
    conversation_id uuid        NOT NULL,
    seq             bigint      NOT NULL,
    shard           smallint    NOT NULL,
    topic           text        NOT NULL,
    value           bytea       NOT NULL,
    event_id        text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    published_at    timestamptz,
    PRIMARY KEY (conversation_id, seq)
);
CREATE INDEX outbox_unpublished ON outbox (shard, conversation_id, seq) WHERE published_at IS NULL;
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;

-- Watermarks: state, not log. Only ever raised; read implies delivered.
CREATE TABLE receipts (
    conversation_id uuid        NOT NULL REFERENCES conversations,
    user_id         text        NOT NULL,
    delivered_seq   bigint      NOT NULL DEFAULT 0,
    read_seq        bigint      NOT NULL DEFAULT 0,
    delivered_at    timestamptz,
    read_at         timestamptz,
    PRIMARY KEY (conversation_id, user_id),
    CHECK (read_seq <= delivered_seq)
);
