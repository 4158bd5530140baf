-- Fills an empty database with as many messages as bench.messages says, of thirty days: what a reader sees stays the same
-- while everything else grows. Room 1 has three tenths of them; 2 to 2001 have one each, and `many` is a member of all; the
-- others have 70 each, and `seeker` is a member of the first 50.
SET session_replication_role = replica;  -- the keys are right
SET maintenance_work_mem = '256MB';
DROP INDEX search_words;

CREATE TEMPORARY TABLE rooms ON COMMIT DROP AS
SELECT n, ('01910000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS id,
       CASE WHEN n = 1 THEN total * 3 / 10 WHEN n <= 2001 THEN 1 ELSE 70 END AS messages
FROM (SELECT current_setting('bench.messages')::bigint AS total) AS given,
     LATERAL generate_series(1::bigint, 2001 + (total * 7 / 10 - 2000) / 70) AS n;

CREATE TEMPORARY TABLE vocabulary ON COMMIT DROP AS
SELECT array_agg(word) AS words
FROM (SELECT translate(substr(md5(g::text), 1, 5 + g % 5), '0123456789', 'ghijklmnop') AS word
      FROM generate_series(1, 5000) AS g) AS made;

CREATE TEMPORARY TABLE entries ON COMMIT DROP AS
SELECT place.*, 'u' || CASE WHEN n = 1 THEN seq % 100 ELSE n % 5000 END AS sender,
       (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(r::text), 1, 3)
        || '8' || substr(md5(r::text), 4, 15))::uuid AS message_id,
       (SELECT string_agg(words[1 + (hashint8(r * 31 + k) & 2147483647) % 5000], ' ')
        FROM generate_series(1, 9) AS k) AS content
FROM (
    SELECT ordered.*, date_trunc('milliseconds', now() - interval '30 days' * (1 - r::float8 / count(*) OVER ())) AS at
    FROM (SELECT n, id, seq, row_number() OVER (ORDER BY seq::float8 / messages, n) AS r
          FROM rooms, LATERAL generate_series(1::bigint, messages) AS seq) AS ordered
) AS place, vocabulary;

INSERT INTO conversations (conversation_id, created_by, member_count, last_seq, message_count, created_at, last_at)
SELECT rooms.id, 'u' || n % 5000, CASE WHEN n = 1 THEN 102 ELSE 2 END, messages, messages, now() - interval '31 days', last.at
FROM rooms JOIN (SELECT id, max(at) AS at FROM entries GROUP BY id) AS last USING (id);

INSERT INTO members (conversation_id, user_id, role, joined_seq, has_written)
SELECT id, 'u' || n % 5000, 'owner', 0, true FROM rooms
UNION ALL SELECT id, 'u' || k, 'member', 0, true FROM rooms, generate_series(0, 99) AS k WHERE n = 1 AND k <> 1
UNION ALL SELECT id, unnest(ARRAY['reader', 'far']), 'member', 0, false FROM rooms WHERE n = 1
UNION ALL SELECT id, 'many', 'member', 0, false FROM rooms WHERE n BETWEEN 2 AND 2001
UNION ALL SELECT id, 'seeker', 'member', 0, false FROM rooms WHERE n BETWEEN 2002 AND 2051;

INSERT INTO messages (message_id, conversation_id, seq, sender_id, type, content, client_message_id, body_hash, status,
                      created_at)
SELECT message_id, id, seq, sender, 'text', content, 'k' || r, sha256(int8send(r)), 1, at FROM entries ORDER BY r;

INSERT INTO changes (conversation_id, seq, kind, message_id, at)
SELECT id, seq, 'message', message_id, at FROM entries ORDER BY r;

-- Published events are kept for two days.
INSERT INTO outbox (conversation_id, seq, shard, topic, value, event_id, created_at, published_at)
SELECT id, seq, n % 16, 'message.created', convert_to(json_build_object('message', json_build_object(
           'messageId', message_id, 'conversationId', id, 'seq', seq, 'senderId', sender, 'type', 'text',
           'content', content, 'createdAt', at, 'status', 'pending'))::text, 'UTF8'), message_id::text, at, at
FROM entries WHERE at > now() - interval '48 hours' ORDER BY r;

INSERT INTO receipts (conversation_id, user_id, delivered_seq, read_seq, read_count, delivered_at, read_at)
SELECT id, 'many', 1, 1, 1, now(), now() FROM rooms WHERE n BETWEEN 2 AND 2001;

INSERT INTO stage_cursors (stage, conversation_id, seq) SELECT 'analytics', id, messages FROM rooms;
INSERT INTO analytics_minutes (conversation_id, minute, messages)
SELECT id, date_trunc('minute', at), count(*) FROM entries GROUP BY 1, 2;

INSERT INTO search_documents (message_id, conversation_id, seq, sender_id, words, digest, created_at)
SELECT message_id, id, seq, sender, to_tsvector('simple', content) || array_to_tsvector(ARRAY['TYPE:text']),
       substring(sha256(convert_to(content, 'UTF8')) FOR 16), at
FROM entries ORDER BY r;
INSERT INTO search_vocabulary (word) SELECT DISTINCT unnest(words) FROM vocabulary;
CREATE INDEX search_words ON search_documents USING gin (words) WITH (gin_pending_list_limit = 512);

RESET session_replication_role;
RESET maintenance_work_mem;
