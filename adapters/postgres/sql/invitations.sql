-- name: relations
-- An acquaintance has written in one of the 500 latest small conversations of the one who acts.
WITH acquaintances AS (
    SELECT DISTINCT other.user_id
    FROM (SELECT conversation_id
          FROM members mine JOIN conversations c USING (conversation_id)
          WHERE mine.user_id = %(by)s AND c.member_count BETWEEN 2 AND %(max_members)s
          ORDER BY c.last_at DESC LIMIT 500) AS small
    JOIN members other USING (conversation_id)
    WHERE other.has_written
)
SELECT asked.user_id, m.role, i.user_id IS NOT NULL, f.ended_by, a.user_id IS NOT NULL, d.user_id IS NOT NULL
FROM unnest(%(users)s::text[]) AS asked (user_id)
LEFT JOIN members m ON m.conversation_id = %(conversation_id)s::uuid AND m.user_id = asked.user_id
LEFT JOIN invitations i ON i.conversation_id = %(conversation_id)s::uuid AND i.user_id = asked.user_id
LEFT JOIN former_members f ON f.conversation_id = %(conversation_id)s::uuid AND f.user_id = asked.user_id
LEFT JOIN acquaintances a ON a.user_id = asked.user_id
LEFT JOIN declined_inviters d ON d.user_id = asked.user_id AND d.invited_by = %(by)s;

-- name: standing
SELECT EXISTS (SELECT 1 FROM members
               WHERE conversation_id = %(conversation_id)s::uuid AND user_id = %(user_id)s),
       EXISTS (SELECT 1 FROM invitations
               WHERE conversation_id = %(conversation_id)s::uuid AND user_id = %(user_id)s),
       (SELECT ended_by FROM former_members
        WHERE conversation_id = %(conversation_id)s::uuid AND user_id = %(user_id)s);

-- name: lock_inviter
-- Taken last, and held until the commit: invitations of one user are counted and stored one after the other.
SELECT pg_advisory_xact_lock(hashtextextended('inviter ' || %(by)s, 0));

-- name: open_by_user
SELECT user_id, count(*) FROM invitations WHERE invited_by = %(by)s GROUP BY user_id;

-- name: insert
INSERT INTO invitations (conversation_id, user_id, invited_by)
SELECT %(conversation_id)s::uuid, user_id, %(by)s FROM unnest(%(users)s::text[]) AS user_id
ON CONFLICT DO NOTHING;

-- name: end
DELETE FROM invitations WHERE conversation_id = %(conversation_id)s::uuid AND user_id = %(user_id)s
RETURNING invited_by;

-- name: note_declined
INSERT INTO declined_inviters (user_id, invited_by) VALUES (%(user_id)s, %(by)s) ON CONFLICT DO NOTHING;

-- name: page
SELECT i.conversation_id::text, c.title, i.invited_by, c.member_count, i.at
FROM invitations i JOIN conversations c USING (conversation_id)
WHERE i.user_id = %(user_id)s
  AND (%(before_at)s::timestamptz IS NULL
       OR (i.at, i.conversation_id) < (%(before_at)s::timestamptz, %(before_id)s::uuid))
ORDER BY i.at DESC, i.conversation_id DESC
LIMIT %(limit)s;
