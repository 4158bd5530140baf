-- name: share_content
-- Whoever stores files of a content shares its lock; whoever deletes them has it alone.
SELECT pg_advisory_xact_lock_shared(%(space)s, hashtext(%(sha256)s));

-- name: add
WITH added AS (
    INSERT INTO media (media_id, owner_id, file_name, declared_type, size, sha256)
    VALUES (%(media_id)s::uuid, %(owner_id)s, %(file_name)s, %(declared_type)s, %(size)s, %(sha256)s)
    ON CONFLICT DO NOTHING
    RETURNING owner_id
)
INSERT INTO media_usage AS u (owner_id, stored, day, today)
SELECT owner_id, %(charge)s, (now() AT TIME ZONE 'UTC')::date, %(charge)s FROM added
ON CONFLICT (owner_id) DO UPDATE SET
    stored = u.stored + excluded.stored,
    today = excluded.today + CASE WHEN u.day = excluded.day THEN u.today ELSE 0 END,
    day = excluded.day;

-- name: usage
SELECT stored, CASE WHEN day = (now() AT TIME ZONE 'UTC')::date THEN today ELSE 0 END
FROM media_usage WHERE owner_id = %(owner_id)s;

-- name: get
SELECT {media_columns} FROM media m LEFT JOIN media_looks l USING (sha256) WHERE m.media_id = %(media_id)s::uuid;

-- name: may_read
SELECT 1 FROM media WHERE media_id = %(media_id)s::uuid AND owner_id = %(user_id)s
UNION ALL
SELECT 1 FROM attachments a JOIN members USING (conversation_id)
WHERE a.media_id = %(media_id)s::uuid AND user_id = %(user_id)s AND a.seq > members.hidden_up_to
LIMIT 1;

-- name: save_probe
INSERT INTO media_looks (sha256, media_type, width, height, duration_ms, blurhash, clean, thumbnail, served, error)
SELECT %(sha256)s, %(media_type)s, %(width)s, %(height)s, %(duration_ms)s, %(blurhash)s, %(clean)s, %(thumbnail)s,
       %(served)s, %(error)s
WHERE EXISTS (SELECT 1 FROM media WHERE sha256 = %(sha256)s)
ON CONFLICT DO NOTHING;

-- name: begin_collection
SELECT pg_try_advisory_xact_lock(%(space)s);

-- name: due
-- Locked before they are judged: a message that names one of them is stored by then, or does not find it any more.
SELECT media_id::text FROM media
WHERE NOT kept AND created_at < now() - make_interval(secs => %(older_than_s)s)
ORDER BY created_at LIMIT %(limit)s
FOR UPDATE SKIP LOCKED;

-- name: collect
WITH kept AS (
    UPDATE media m SET kept = true
    WHERE m.media_id = ANY(%(ids)s::uuid[]) AND EXISTS (SELECT 1 FROM attachments a WHERE a.media_id = m.media_id)
), gone AS (
    DELETE FROM media m
    WHERE m.media_id = ANY(%(ids)s::uuid[]) AND NOT EXISTS (SELECT 1 FROM attachments a WHERE a.media_id = m.media_id)
    RETURNING m.owner_id, m.size, m.sha256
), unused AS (
    INSERT INTO media_unused (sha256) SELECT DISTINCT sha256 FROM gone ON CONFLICT DO NOTHING
)
UPDATE media_usage u SET stored = greatest(u.stored - freed.bytes, 0)
FROM (SELECT owner_id, sum(greatest(size, %(min_charge)s)) AS bytes FROM gone GROUP BY owner_id) AS freed
WHERE u.owner_id = freed.owner_id;

-- name: unused
-- In any order, so that files that cannot be deleted hold up no others for good.
SELECT sha256 FROM media_unused ORDER BY random() LIMIT %(limit)s;

-- name: own_content
SELECT pg_try_advisory_xact_lock(%(space)s, hashtext(%(sha256)s));

-- name: is_used
SELECT 1 FROM media WHERE sha256 = %(sha256)s LIMIT 1;

-- name: forget_look
DELETE FROM media_looks WHERE sha256 = %(sha256)s;

-- name: forget_unused
DELETE FROM media_unused WHERE sha256 = %(sha256)s;

-- name: place
SELECT event::text FROM media_places
WHERE message_id = %(message_id)s::uuid AND media_id = %(media_id)s::uuid;

-- name: insert_place
INSERT INTO media_places (message_id, media_id, conversation_id, seq, event)
VALUES (%(message_id)s::uuid, %(media_id)s::uuid, %(conversation_id)s::uuid, %(seq)s, %(event)s::jsonb);

-- name: told
SELECT message_id || ':' || media_id FROM media_places WHERE message_id = ANY(%(messages)s::uuid[]);
