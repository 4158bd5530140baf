DROP TABLE media_usage;
