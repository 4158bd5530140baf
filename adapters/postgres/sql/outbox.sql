-- name: let_go
-- A relay asks twice a second, and waits at most 15 s for the broker between; one that is silent for longer is frozen, or
-- its machine is gone. The server ends its session then, and its shards are free.
SELECT set_config('idle_session_timeout', '20s', false), set_config('tcp_keepalives_idle', '5', false),
       set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false);

-- name: by_index
-- The relay looks rows up by their keys. Left to its statistics, the planner takes the index of unpublished rows for
-- empty, and reads it whole for each mark, with all that a snapshot keeps in it.
SELECT set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false);

-- name: claim
-- Session-level locks: they end with the connection, so a dead relay's shards are free at once.
SELECT shard FROM unnest(%(shards)s::int[]) AS shard WHERE pg_try_advisory_lock(%(space)s, shard);

-- name: unpublished
-- What is owed for the first time comes first, in the order in which it was owed: of each conversation the lowest seqs. A
-- conversation that owes something again besides gets that before, and those that have less of it have their turn
-- earlier. What else is owed again comes last.
WITH floors AS MATERIALIZED (
    SELECT s.shard, kind.again, coalesce((
        SELECT max(position) FROM outbox_floors f WHERE f.shard = s.shard AND f.again = kind.again), 0) AS position
    FROM unnest(%(shards)s::smallint[]) AS s (shard) CROSS JOIN (VALUES (false), (true)) AS kind (again)
), owed AS MATERIALIZED (
    SELECT o.* FROM floors CROSS JOIN LATERAL (
        SELECT * FROM outbox
        WHERE shard = floors.shard AND again = floors.again AND published_at IS NULL AND position >= floors.position
        ORDER BY position LIMIT %(limit)s) AS o
), fresh AS MATERIALIZED (
    SELECT * FROM owed WHERE NOT again ORDER BY position LIMIT %(limit)s
), retained AS MATERIALIZED (
    SELECT * FROM owed WHERE again ORDER BY position LIMIT %(limit)s
), before AS MATERIALIZED (
    SELECT o.*
    FROM (SELECT DISTINCT conversation_id FROM fresh WHERE EXISTS (SELECT FROM retained)) AS waiting
    CROSS JOIN LATERAL (
        SELECT * FROM outbox
        WHERE conversation_id = waiting.conversation_id AND published_at IS NULL AND again
        ORDER BY seq, part LIMIT %(limit)s) AS o
), turns AS (
    SELECT false AS last, * FROM fresh
    UNION ALL
    SELECT false, * FROM before
    UNION ALL
    SELECT true, * FROM retained WHERE conversation_id NOT IN (SELECT conversation_id FROM fresh)
)
SELECT conversation_id::text, seq, topic, value, event_id, part, replay
FROM turns
ORDER BY last, count(*) FILTER (WHERE again) OVER (PARTITION BY turns.conversation_id), turns.conversation_id, seq, part
LIMIT %(limit)s;

-- name: messages
-- The event of a message is made from its row.
SELECT {message_columns}, m.client_message_id, m.body_hash
FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[]) AS owed (conversation_id, seq)
CROSS JOIN LATERAL (
    SELECT * FROM messages WHERE conversation_id = owed.conversation_id AND seq = owed.seq OFFSET 0) AS m;

-- name: drawn
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_position_seq;

-- name: writers
-- Transactions that have written to the outbox and are not over. They hold this lock from before they draw a position
-- until everybody sees what they have written.
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND relation = 'outbox'::regclass AND mode = 'RowExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: raise_floors
-- Up to the lowest position that is owed, and no further than is known to be complete.
INSERT INTO outbox_floors (shard, again, position)
SELECT shard, again, lowest
FROM (
    SELECT s.shard, c.again, least(c.complete + 1, (
               SELECT position FROM outbox
               WHERE shard = s.shard AND again = c.again AND published_at IS NULL AND position >= coalesce(f.position, 0)
               ORDER BY position LIMIT 1)) AS lowest, f.position AS floor
    FROM unnest(%(shards)s::smallint[]) AS s (shard)
    CROSS JOIN (VALUES (false, %(complete)s::bigint), (true, %(complete)s::bigint)) AS c (again, complete)
    LEFT JOIN LATERAL (
        SELECT max(position) AS position FROM outbox_floors WHERE shard = s.shard AND again = c.again) AS f ON true
) AS found
WHERE lowest > coalesce(floor, 0)
ON CONFLICT DO NOTHING;

-- name: mark
-- Locks the row that a found loss changes: marks come wholly before it, or count for nothing. The lock makes no new
-- version of the row, of which an old snapshot would keep one for each batch.
WITH noted AS MATERIALIZED (
    SELECT epoch FROM log_state WHERE epoch = %(epoch)s FOR NO KEY UPDATE
), reached AS (
    INSERT INTO log_ends (epoch, place, reached)
    SELECT noted.epoch, place, reached
    FROM noted CROSS JOIN unnest(%(places)s::text[], %(ends)s::bigint[]) AS written (place, reached)
    ON CONFLICT DO NOTHING
)
UPDATE outbox o SET published_at = now()
FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[], %(parts)s::text[], %(event_ids)s::text[])
    AS done (conversation_id, seq, part, event_id)
WHERE o.conversation_id = done.conversation_id AND o.seq = done.seq AND o.part = done.part
  AND o.event_id = done.event_id  -- a later receipt may be owed in its place by now
  AND (EXISTS (SELECT FROM noted) OR NOT EXISTS (SELECT FROM log_state));

-- name: first_note
INSERT INTO log_state (cluster_id, replication) VALUES (%(cluster_id)s, %(replication)s) ON CONFLICT DO NOTHING;

-- name: state
SELECT cluster_id, replication, epoch FROM log_state FOR UPDATE;

-- name: epoch
SELECT id FROM store_epochs WHERE number = millrace_epoch() AND server IS NOT NULL;

-- name: noted
SELECT cluster_id, replication, epoch FROM log_state;

-- name: lacking
-- A message is known by its id, a creation by its conversation, and a change of members by its place and what it says:
-- after the store went back, another entry may stand there.
SELECT nth
FROM unnest(%(conversations)s::uuid[], %(seqs)s::bigint[], %(messages)s::uuid[], %(kinds)s::text[], %(users)s::text[],
            %(times)s::text[]) WITH ORDINALITY AS e (conversation_id, seq, message_id, kind, user_id, at, nth)
WHERE CASE
    WHEN e.message_id IS NOT NULL THEN NOT EXISTS (SELECT FROM messages m WHERE m.message_id = e.message_id)
    WHEN e.seq = 0 THEN NOT EXISTS (SELECT FROM conversations c WHERE c.conversation_id = e.conversation_id)
    ELSE NOT EXISTS (
        SELECT FROM changes c
        WHERE c.conversation_id = e.conversation_id AND c.seq = e.seq AND c.kind = e.kind
          AND c.data->>'userId' = e.user_id AND c.data->>'at' = e.at)
END
ORDER BY nth LIMIT %(limit)s;

-- name: ends
-- From place to place, and of each the highest.
WITH RECURSIVE noted AS (
    (SELECT place, reached FROM log_ends WHERE epoch = %(epoch)s ORDER BY place DESC, reached DESC LIMIT 1)
    UNION ALL
    SELECT next.place, next.reached FROM noted CROSS JOIN LATERAL (
        SELECT place, reached FROM log_ends WHERE epoch = %(epoch)s AND place < noted.place
        ORDER BY place DESC, reached DESC LIMIT 1) AS next
)
SELECT place, reached FROM noted;

-- name: note_loss
UPDATE log_state SET cluster_id = %(cluster_id)s, replication = %(replication)s, epoch = %(epoch)s, noted_at = now();

-- name: note_ends
INSERT INTO log_ends (epoch, place, reached)
SELECT %(epoch)s, place, reached FROM unnest(%(places)s::text[], %(ends)s::bigint[]) AS found (place, reached)
ON CONFLICT DO NOTHING;

-- name: replication
SELECT replication FROM log_state;

-- name: no_hurry
-- All that is retained may be millions of rows.
SELECT set_config('statement_timeout', '15min', true), set_config('enable_seqscan', 'on', true),
       set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true);

-- name: one_at_a_time
-- Positions of two that are drawn at once would be mixed.
SELECT pg_advisory_xact_lock(%(space)s, -1);

-- name: republish
-- Whatever is owed again gets new positions, in the order of seqs, also what was owed again before: so each conversation
-- is published in order from its lowest seq on. What was published long enough before the last publication has reached
-- all who had to be told of it.
UPDATE outbox o SET published_at = NULL, again = true, position = owed.position,
    replay = o.replay OR coalesce(o.published_at <= (
        SELECT max(published_at) - make_interval(secs => %(told_after_s)s) FROM outbox), false)
FROM (
    SELECT conversation_id, seq, part, nextval('outbox_position_seq') AS position
    FROM (
        SELECT conversation_id, seq, part FROM outbox
        WHERE (published_at IS NULL AND again)
           OR (published_at IS NOT NULL
               AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s::timestamptz)
               AND (%(conversation_id)s::uuid IS NULL OR conversation_id = %(conversation_id)s::uuid))
        ORDER BY conversation_id, seq, part OFFSET 0
    ) AS sorted
) AS owed
WHERE o.conversation_id = owed.conversation_id AND o.seq = owed.seq AND o.part = owed.part;

-- name: owed
SELECT count(*) FROM outbox
WHERE published_at IS NULL AND created_at <= %(until)s::timestamptz
  AND (%(conversation_id)s::uuid IS NULL OR conversation_id = %(conversation_id)s::uuid);

-- name: oldest
-- Of what is owed after a loss there may be millions of rows: then a part tells enough.
SELECT min(owed.created_at)
FROM unnest(%(shards)s::smallint[]) AS s (shard)
CROSS JOIN (VALUES (false), (true)) AS kind (again)
CROSS JOIN LATERAL (
    SELECT created_at FROM outbox
    WHERE shard = s.shard AND again = kind.again AND published_at IS NULL AND position >= coalesce((
        SELECT max(position) FROM outbox_floors f WHERE f.shard = s.shard AND f.again = kind.again), 0)
    ORDER BY position LIMIT 500
) AS owed;

-- name: announce
SELECT pg_notify('outbox', '');

-- name: listen
LISTEN outbox;
