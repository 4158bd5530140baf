-- depends: 0005.identity
-- A search reads few rows that wait for its index; a user has few tickets at a time.

-- A search reads the rows that wait for this index one by one, so few may wait.
DROP INDEX search_words, search_trigrams;
CREATE INDEX search_words ON search_documents USING gin (words) WITH (gin_pending_list_limit = 512);

CREATE INDEX tickets_by_user ON tickets (user_id, ends);
