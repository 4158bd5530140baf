-- name: create
INSERT INTO conversations (conversation_id, title, created_by, member_count, request_hash)
VALUES (%(conversation_id)s::uuid, %(title)s, %(owner)s, %(count)s, %(request_hash)s)
ON CONFLICT DO NOTHING;

-- name: created_by_the_same
SELECT 1 FROM conversations
WHERE conversation_id = %(conversation_id)s::uuid AND created_by = %(owner)s
  AND request_hash <> '' AND request_hash = %(request_hash)s;

-- name: create_members
INSERT INTO members (conversation_id, user_id, role, joined_seq)
SELECT %(conversation_id)s::uuid, user_id, CASE WHEN user_id = %(owner)s THEN 'owner' ELSE 'member' END, 0
FROM unnest(%(members)s::text[]) AS user_id;

-- name: role
SELECT role FROM members WHERE conversation_id = %(conversation_id)s::uuid AND user_id = %(by)s;

-- name: count_member
UPDATE conversations SET member_count = member_count + %(delta)s
WHERE conversation_id = %(conversation_id)s::uuid AND (%(delta)s < 0 OR member_count < %(max)s);

-- name: add_member
-- What was said before is not unread to who joins.
INSERT INTO members (conversation_id, user_id, role, joined_seq, hidden_up_to, seen_seq, seen_count)
SELECT conversation_id, %(user_id)s, 'member', %(seq)s, %(hidden_up_to)s, %(seq)s, message_count
FROM conversations WHERE conversation_id = %(conversation_id)s::uuid
ON CONFLICT DO NOTHING;

-- name: forget_former
DELETE FROM former_members WHERE conversation_id = %(conversation_id)s::uuid AND user_id = %(user_id)s;

-- name: remove_member
DELETE FROM members WHERE conversation_id = %(conversation_id)s::uuid AND user_id = %(user_id)s;

-- name: remember_former
INSERT INTO former_members (conversation_id, user_id, ended_by)
VALUES (%(conversation_id)s::uuid, %(user_id)s, %(by)s)
ON CONFLICT (conversation_id, user_id) DO UPDATE SET ended_by = excluded.ended_by, at = now();

-- name: get
SELECT c.conversation_id::text, c.title, c.last_seq,
       array_agg(m.user_id ORDER BY m.user_id),
       array_agg(m.role ORDER BY m.user_id),
       array_agg(coalesce(r.delivered_seq, 0) ORDER BY m.user_id),
       array_agg(coalesce(r.read_seq, 0) ORDER BY m.user_id),
       ARRAY(SELECT i.user_id FROM invitations i WHERE i.conversation_id = c.conversation_id ORDER BY i.user_id)
FROM conversations c
JOIN members m USING (conversation_id)
LEFT JOIN receipts r USING (conversation_id, user_id)
WHERE c.conversation_id = %(conversation_id)s::uuid
GROUP BY c.conversation_id
HAVING bool_or(m.user_id = %(user_id)s);

-- name: mine
-- The page is chosen first: the last message and the watermarks are read for its conversations only.
WITH page AS (
    SELECT c.conversation_id, c.title, c.last_seq, c.last_at, c.message_count,
           m.hidden_up_to, m.seen_seq, m.seen_count
    FROM members m JOIN conversations c USING (conversation_id)
    WHERE m.user_id = %(user_id)s
      AND (%(before_at)s::timestamptz IS NULL
           OR (c.last_at, c.conversation_id) < (%(before_at)s::timestamptz, %(before_id)s::uuid))
    ORDER BY c.last_at DESC, c.conversation_id DESC
    LIMIT %(limit)s
)
SELECT page.conversation_id::text, page.title, page.last_seq, page.last_at, greatest(r.read_seq, page.seen_seq),
       page.message_count - greatest(r.read_count, page.seen_count),
       {message_columns}
FROM page
LEFT JOIN receipts r ON r.conversation_id = page.conversation_id AND r.user_id = %(user_id)s
LEFT JOIN LATERAL (
    SELECT * FROM messages l WHERE l.conversation_id = page.conversation_id AND l.seq > page.hidden_up_to
    ORDER BY l.seq DESC LIMIT 1
) AS m ON true
ORDER BY page.last_at DESC, page.conversation_id DESC;

-- name: unread
SELECT coalesce(sum(unread), 0)::bigint, count(*)
FROM (SELECT c.message_count - greatest(r.read_count, m.seen_count) AS unread
      FROM members m
      JOIN conversations c USING (conversation_id)
      LEFT JOIN receipts r USING (conversation_id, user_id)
      WHERE m.user_id = %(user_id)s) AS lines
WHERE unread > 0;
