DROP TABLE search_documents, search_vocabulary, search_rebuilds;

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
CREATE INDEX search_words ON search_documents USING gin (words) WITH (gin_pending_list_limit = 512);
CREATE INDEX search_by_conversation ON search_documents (conversation_id, seq);
