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
SELECT m.media_id::text, m.owner_id, m.file_name, m.declared_type, m.size, m.sha256,
       (SELECT p.conversation_id::text FROM media_places p WHERE p.media_id = m.media_id LIMIT 1),
       l.media_type, coalesce(l.thumbnail, false), coalesce(l.clean, false)
FROM media m LEFT JOIN media_looks l USING (sha256)
WHERE m.media_id = %(media_id)s::uuid;

-- name: may_read
SELECT 1 FROM media WHERE media_id = %(media_id)s::uuid AND owner_id = %(user_id)s
UNION ALL
SELECT 1 FROM media_places
JOIN members USING (conversation_id)
JOIN messages m USING (message_id)
WHERE media_id = %(media_id)s::uuid AND user_id = %(user_id)s AND m.seq > members.hidden_up_to
LIMIT 1;

-- name: find_probe
SELECT media_type, width, height, error FROM media_looks WHERE sha256 = %(sha256)s;

-- name: save_probe
INSERT INTO media_looks (sha256, media_type, width, height, clean, thumbnail, error)
VALUES (%(sha256)s, %(media_type)s, %(width)s, %(height)s, %(clean)s, %(thumbnail)s, %(error)s)
ON CONFLICT DO NOTHING;

-- name: place
SELECT event::text FROM media_places
WHERE message_id = %(message_id)s::uuid AND media_id = %(media_id)s::uuid;

-- name: insert_place
INSERT INTO media_places (message_id, media_id, conversation_id, seq, event)
VALUES (%(message_id)s::uuid, %(media_id)s::uuid, %(conversation_id)s::uuid, %(seq)s, %(event)s::jsonb);

-- name: told
SELECT message_id || ':' || media_id FROM media_places WHERE message_id = ANY(%(messages)s::uuid[]);
