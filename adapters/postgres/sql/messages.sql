-- name: newest_first
SELECT {message_columns} FROM messages m
WHERE m.conversation_id = %(conversation_id)s::uuid AND m.seq > %(after)s AND m.seq < %(before)s
ORDER BY m.seq DESC LIMIT %(limit)s;

-- name: oldest_first
SELECT {message_columns} FROM messages m
WHERE m.conversation_id = %(conversation_id)s::uuid AND m.seq > %(after)s AND m.seq < %(before)s
ORDER BY m.seq LIMIT %(limit)s;

-- name: one
SELECT {message_columns} FROM messages m
JOIN members USING (conversation_id)
WHERE m.message_id = %(message_id)s::uuid AND members.user_id = %(user_id)s AND m.seq > members.hidden_up_to;

-- name: find
SELECT {message_columns} FROM messages m WHERE m.message_id = ANY(%(ids)s::uuid[]);

-- name: receipts
SELECT members.user_id, coalesce(r.delivered_seq, 0) >= m.seq, coalesce(r.read_seq, 0) >= m.seq,
       r.delivered_at, r.read_at
FROM messages m
JOIN members USING (conversation_id)
LEFT JOIN receipts r USING (conversation_id, user_id)
WHERE m.message_id = %(message_id)s::uuid AND members.user_id <> m.sender_id
ORDER BY members.user_id;
