-- depends: 0006.bounds

-- What the files of a user count: in all, and those of the day (UTC) of the last one.
CREATE TABLE media_usage (
    owner_id text   PRIMARY KEY,
    stored   bigint NOT NULL,
    day      date   NOT NULL,
    today    bigint NOT NULL
);

INSERT INTO media_usage (owner_id, stored, day, today)
SELECT owner_id, sum(greatest(size, 16384)), (now() AT TIME ZONE 'UTC')::date,
       coalesce(sum(greatest(size, 16384)) FILTER (WHERE created_at >= date_trunc('day', now(), 'UTC')), 0)
FROM media GROUP BY owner_id;
