DROP TABLE search_documents, media_places, media_looks, media, stage_cursors, analytics_minutes, notifications;
DROP FUNCTION millrace_words;
