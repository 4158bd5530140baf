-- name: add
INSERT INTO media (media_id, owner_id, file_name, declared_type, size, sha256)
VALUES (%(media_id)s::uuid, %(owner_id)s, %(file_name)s, %(declared_type)s, %(size)s, %(sha256)s)
ON CONFLICT DO NOTHING;

-- name: get
SELECT m.media_id::text, m.owner_id, m.file_name, m.declared_type, m.size, m.sha256,
       (SELECT p.conversation_id::text FROM media_places p WHERE p.media_id = m.media_id LIMIT 1),
       l.media_type, coalesce(l.thumbnail, false), coalesce(l.clean, false)
FROM media m LEFT JOIN media_looks l USING (sha256)
WHERE m.media_id = %(media_id)s::uuid;

-- name: may_read
SELECT 1 FROM media WHERE media_id = %(media_id)s::uuid AND owner_id = %(user_id)s
UNION ALL
SELECT 1 FROM media_places JOIN members USING (conversation_id)
WHERE media_id = %(media_id)s::uuid AND user_id = %(user_id)s
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
