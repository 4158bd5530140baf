-- name: create
INSERT INTO conversations (conversation_id, title, created_by, member_count)
VALUES (%(conversation_id)s::uuid, %(title)s, %(owner)s, %(count)s)
ON CONFLICT DO NOTHING;

-- name: create_members
INSERT INTO members (conversation_id, user_id, role, joined_seq)
SELECT %(conversation_id)s::uuid, user_id, CASE WHEN user_id = %(owner)s THEN 'owner' ELSE 'member' END, 0
FROM unnest(%(members)s::text[]) AS user_id;

-- name: lock
-- The lock that gives seqs: whoever changes a conversation takes it.
SELECT c.last_seq, m.role
FROM conversations c
LEFT JOIN members m ON m.conversation_id = c.conversation_id AND m.user_id = %(by)s
WHERE c.conversation_id = %(conversation_id)s::uuid
FOR UPDATE OF c;

-- name: add_member
INSERT INTO members (conversation_id, user_id, role, joined_seq)
VALUES (%(conversation_id)s::uuid, %(user_id)s, 'member', %(seq)s)
ON CONFLICT DO NOTHING;

-- name: remove_member
DELETE FROM members WHERE conversation_id = %(conversation_id)s::uuid AND user_id = %(user_id)s;

-- name: raise_head
UPDATE conversations SET last_seq = %(seq)s, last_at = now(), member_count = member_count + %(delta)s
WHERE conversation_id = %(conversation_id)s::uuid AND (%(delta)s < 0 OR member_count < %(max)s);

-- name: insert_change
INSERT INTO changes (conversation_id, seq, kind, data)
VALUES (%(conversation_id)s::uuid, %(seq)s, %(kind)s, %(data)s::jsonb);

-- name: insert_outbox
INSERT INTO outbox (conversation_id, seq, shard, topic, value, event_id)
VALUES (%(conversation_id)s::uuid, %(seq)s, %(shard)s, %(topic)s, %(value)s, %(event_id)s);

-- name: get
SELECT c.conversation_id::text, c.title, c.last_seq,
       array_agg(m.user_id ORDER BY m.user_id),
       array_agg(m.role ORDER BY m.user_id),
       array_agg(coalesce(r.delivered_seq, 0) ORDER BY m.user_id),
       array_agg(coalesce(r.read_seq, 0) ORDER BY m.user_id)
FROM conversations c
JOIN members m USING (conversation_id)
LEFT JOIN receipts r USING (conversation_id, user_id)
WHERE c.conversation_id = %(conversation_id)s::uuid
GROUP BY c.conversation_id
HAVING bool_or(m.user_id = %(user_id)s);

-- name: mine
-- Unread: messages of others beyond the own read watermark, counted up to 1,000.
SELECT c.conversation_id::text, c.title, c.last_seq, c.last_at, coalesce(r.read_seq, 0),
       (SELECT count(*) FROM (
            SELECT 1 FROM messages u
            WHERE u.conversation_id = c.conversation_id AND u.seq > coalesce(r.read_seq, 0)
              AND u.sender_id <> mine.user_id
            LIMIT 1000) AS counted),
       {message_columns}
FROM members mine
JOIN conversations c USING (conversation_id)
LEFT JOIN receipts r ON r.conversation_id = c.conversation_id AND r.user_id = mine.user_id
LEFT JOIN LATERAL (
    SELECT * FROM messages l WHERE l.conversation_id = c.conversation_id ORDER BY l.seq DESC LIMIT 1
) AS m ON true
WHERE mine.user_id = %(user_id)s
  AND (%(before_at)s::timestamptz IS NULL
       OR (c.last_at, c.conversation_id) < (%(before_at)s::timestamptz, %(before_id)s::uuid))
ORDER BY c.last_at DESC, c.conversation_id DESC
LIMIT %(limit)s;
