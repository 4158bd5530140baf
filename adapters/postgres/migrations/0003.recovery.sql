-- What is needed to notice losses and to mend them.

-- What the log held when the relay last looked. One row. epoch counts the losses.
CREATE TABLE log_state (
    id          boolean     PRIMARY KEY DEFAULT true CHECK (id),
    cluster_id  text        NOT NULL,
    replication int         NOT NULL,
    ends        jsonb       NOT NULL,
    epoch       int         NOT NULL DEFAULT 0,
    noted_at    timestamptz NOT NULL DEFAULT now()
);

-- Facts that take no seq of their own (receipts) stand behind the change whose seq they name.
ALTER TABLE outbox ADD COLUMN part text NOT NULL DEFAULT '';
ALTER TABLE outbox DROP CONSTRAINT outbox_pkey, ADD PRIMARY KEY (conversation_id, seq, part);

-- Conversations whose records an ordered stage sets aside, until those that it set aside first are replayed.
CREATE TABLE parked (
    stage           text        NOT NULL,
    conversation_id uuid        NOT NULL,
    cause           text        NOT NULL,
    failures        int         NOT NULL,
    letters         int         NOT NULL,
    since           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stage, conversation_id)
);

CREATE TABLE dead_letters_replayed (
    letter_id   uuid        PRIMARY KEY,
    stage       text        NOT NULL,
    replayed_at timestamptz NOT NULL DEFAULT now()
);

-- Watermarks of each device; those of the member, in receipts, are their maximum.
CREATE TABLE device_receipts (
    conversation_id uuid        NOT NULL REFERENCES conversations,
    user_id         text        NOT NULL,
    device          text        NOT NULL,
    delivered_seq   bigint      NOT NULL,
    read_seq        bigint      NOT NULL,
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id, device),
    CHECK (read_seq <= delivered_seq)
);

-- In which epoch of the log a stage's position in a partition was reached; in a later one it means nothing.
CREATE TABLE stage_epochs (
    stage     text NOT NULL,
    partition text NOT NULL,
    epoch     int  NOT NULL,
    PRIMARY KEY (stage, partition)
);
