DROP INDEX tickets_by_user;
DROP INDEX search_words;
CREATE INDEX search_words ON search_documents USING gin (words);
CREATE INDEX search_trigrams ON search_documents USING gin (content gin_trgm_ops);
