-- depends: 0005.identity
-- Searches read no more than their caller's conversations; a user has few tickets at a time.

CREATE EXTENSION IF NOT EXISTS btree_gin;

-- A search reads the rows that wait for this index one by one, so few may wait.
CREATE INDEX search_words_by_conversation ON search_documents USING gin (conversation_id, words)
    WITH (gin_pending_list_limit = 512);
DROP INDEX search_words, search_trigrams;

CREATE INDEX tickets_by_user ON tickets (user_id, ends);
