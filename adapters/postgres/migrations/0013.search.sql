-- depends: 0012.media
-- Words come from the analysis of the search stage, which writes all documents anew from the messages.

DROP TABLE search_documents;
DROP FUNCTION millrace_words(text);

CREATE TABLE search_documents (
    message_id      uuid        PRIMARY KEY,
    conversation_id uuid        NOT NULL,
    seq             bigint      NOT NULL,
    sender_id       text        NOT NULL,
    words           tsvector    NOT NULL,
    digest          bytea       NOT NULL, -- of the content that the words are of
    created_at      timestamptz NOT NULL
);
-- A search reads the rows that wait for this index one by one, so few may wait.
CREATE INDEX search_words ON search_documents USING gin (words) WITH (gin_pending_list_limit = 512);
CREATE INDEX search_by_conversation ON search_documents (conversation_id, message_id);

-- Words that somebody has written, for typing errors.
CREATE TABLE search_vocabulary (word text PRIMARY KEY);
CREATE INDEX search_vocabulary_parts ON search_vocabulary USING gin (word gin_trgm_ops);

-- Down to which message the documents are written anew, from the newest on; one row for each version of the analysis.
CREATE TABLE search_rebuilds (
    version int  PRIMARY KEY,
    reached uuid NOT NULL
);
