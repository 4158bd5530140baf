-- What the stages keep.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE notifications (
    notification_id uuid        PRIMARY KEY,
    user_id         text        NOT NULL,
    conversation_id uuid        NOT NULL,
    message_id      uuid        NOT NULL,
    seq             bigint      NOT NULL,
    channel         text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    seen_at         timestamptz,
    UNIQUE (message_id, user_id, channel)
);
CREATE INDEX notifications_by_user ON notifications (user_id, notification_id DESC);

CREATE TABLE analytics_minutes (
    conversation_id uuid        NOT NULL,
    minute          timestamptz NOT NULL,
    messages        int         NOT NULL,
    PRIMARY KEY (conversation_id, minute)
);

-- Up to which seq a stage has done a conversation; written in the effect's transaction.
CREATE TABLE stage_cursors (
    stage           text   NOT NULL,
    conversation_id uuid   NOT NULL,
    seq             bigint NOT NULL,
    PRIMARY KEY (stage, conversation_id)
);

CREATE TABLE media (
    media_id        uuid        PRIMARY KEY,
    owner_id        text        NOT NULL,
    file_name       text        NOT NULL,
    declared_type   text        NOT NULL,
    size            bigint      NOT NULL,
    sha256          text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- What was found out about a content, once for all uploads of the same bytes.
CREATE TABLE media_looks (
    sha256     text    PRIMARY KEY,
    media_type text    NOT NULL,
    width      int,
    height     int,
    clean      boolean NOT NULL,
    thumbnail  boolean NOT NULL,
    error      text
);

-- Where an upload is attached, with the seq under which that was told.
CREATE TABLE media_places (
    message_id      uuid   NOT NULL,
    media_id        uuid   NOT NULL REFERENCES media,
    conversation_id uuid   NOT NULL,
    seq             bigint NOT NULL,
    event           jsonb  NOT NULL,
    PRIMARY KEY (message_id, media_id)
);
CREATE INDEX media_places_by_media ON media_places (media_id);

CREATE FUNCTION millrace_words(content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_tsvector('simple'::regconfig, lower(content));

CREATE TABLE search_documents (
    message_id      uuid        PRIMARY KEY,
    conversation_id uuid        NOT NULL,
    seq             bigint      NOT NULL,
    sender_id       text        NOT NULL,
    content         text        NOT NULL,
    words           tsvector    GENERATED ALWAYS AS (millrace_words(content)) STORED,
    created_at      timestamptz NOT NULL
);
CREATE INDEX search_words ON search_documents USING gin (words);
CREATE INDEX search_trigrams ON search_documents USING gin (content gin_trgm_ops);
CREATE INDEX search_by_conversation ON search_documents (conversation_id, seq);
