-- What operators do: dead letters that they close, records that they step over, and a row for each of their actions.
-- depends: 0008.open-notifications

ALTER TABLE dead_letters_replayed RENAME TO dead_letters_closed;
ALTER TABLE dead_letters_closed RENAME COLUMN replayed_at TO closed_at;
ALTER TABLE dead_letters_closed ADD COLUMN outcome text NOT NULL DEFAULT 'handled', ADD COLUMN reason text;

-- A record is named by its place and by its digest: a log that counts its offsets anew has another record there.
CREATE TABLE skipped_records (
    reader      text        NOT NULL,
    topic       text        NOT NULL,
    partition   int         NOT NULL,
    log_offset  bigint      NOT NULL,
    digest      bytea       NOT NULL,
    skipped_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (reader, topic, partition, log_offset)
);

-- True once a row was published and is owed again: what is complete then is told to nobody twice.
ALTER TABLE outbox ADD COLUMN replay boolean NOT NULL DEFAULT false;

-- Messages whose notifications are in the log, by the log's epoch: a notification that is younger than its mark is not.
CREATE TABLE notices_published (
    message_id   uuid        PRIMARY KEY,
    epoch        int         NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now()
);

-- scope and result: ids and numbers, never contents. No result: the action did not come to its end.
CREATE TABLE operator_actions (
    action_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    operator  text        NOT NULL,
    command   text        NOT NULL,
    scope     jsonb       NOT NULL,
    result    jsonb
);
CREATE INDEX operator_actions_by_time ON operator_actions (at);
