-- depends: 0020.epochs
-- Messages are stored in one round trip, and the event of a message is made from its row: the outbox does not repeat the
-- body, and a mark does not write it anew.

ALTER TABLE outbox ALTER COLUMN value DROP NOT NULL;
ALTER TABLE outbox ADD CONSTRAINT outbox_value CHECK (value IS NOT NULL OR topic = 'message.created');

-- A message moves from status to status soon after it is stored: in the room that is left, no index is written for that.
ALTER TABLE messages SET (fillfactor = 80);

-- The only writer of seqs, the change log and the outbox's events of entries. Appends entries to conversations that the
-- caller has locked: raises their heads, logs the changes, owes their events. An entry without a topic owes none. With the
-- first entry of an epoch it is noted where the epoch begins. Positions of the outbox are drawn in the order of seqs.
CREATE FUNCTION millrace_append(
    at timestamptz, conversations uuid[], seqs bigint[], kinds text[], messages uuid[], details text[], activity boolean[],
    shards smallint[], topics text[], "values" bytea[], events text[]
) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    -- A cached plan must not depend on how small a table was when it was made.
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    AS $$
    #variable_conflict use_column
    BEGIN
        WITH server AS MATERIALIZED (
            SELECT millrace_epoch() AS epoch
        ), head AS MATERIALIZED (
            SELECT e.conversation_id, max(e.seq) AS seq, count(*) FILTER (WHERE e.kind = 'message') AS added,
                   bool_or(e.is_activity) AS is_activity
            FROM unnest(millrace_append.conversations, seqs, kinds, activity) AS e (conversation_id, seq, kind, is_activity)
            GROUP BY e.conversation_id
        ), started AS (
            INSERT INTO epoch_starts (conversation_id, epoch, seq)
            SELECT c.conversation_id, server.epoch, c.last_seq
            FROM head JOIN conversations c USING (conversation_id) CROSS JOIN server WHERE c.epoch < server.epoch
        )
        UPDATE conversations c SET last_seq = head.seq, message_count = c.message_count + head.added,
            epoch = server.epoch,
            last_at = CASE WHEN head.is_activity THEN millrace_append.at ELSE c.last_at END
        FROM head CROSS JOIN server
        WHERE c.conversation_id = head.conversation_id;

        INSERT INTO changes (conversation_id, seq, kind, message_id, data, at)
        SELECT e.conversation_id, e.seq, e.kind, e.message_id, e.data::jsonb, millrace_append.at
        FROM unnest(millrace_append.conversations, seqs, kinds, millrace_append.messages, details)
            AS e (conversation_id, seq, kind, message_id, data);

        INSERT INTO outbox (conversation_id, seq, shard, topic, value, event_id)
        SELECT e.conversation_id, e.seq, e.shard, e.topic, e.value, e.event_id
        FROM unnest(millrace_append.conversations, seqs, shards, topics, "values", events)
            AS e (conversation_id, seq, shard, topic, value, event_id)
        WHERE e.topic IS NOT NULL
        ORDER BY e.seq;
    END
    $$;

-- Stores drafts that neither reply to a message nor attach a file, and returns the places (nth, from 1) and seqs of those
-- that are stored now. A draft is left out when another transaction holds its conversation, when its sender is no member,
-- or when its key is known: the caller asks about these. No two drafts of one call have the same key.
--
-- Each statement sees what is committed before it begins: membership and keys are read under the lock.
CREATE FUNCTION millrace_accept(at timestamptz, drafted uuid[], drafts json) RETURNS TABLE (nth int, seq bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    AS $$
    #variable_conflict use_column
    DECLARE
        locked uuid[];
        seqs bigint[];           -- of each draft, null for one that is not stored
        counts bigint[];         -- messages of its conversation up to it
        new_nths int[];          -- from here on of those that are stored
        new_seqs bigint[];
        new_in uuid[];
        new_ids uuid[];
        new_shards smallint[];
        size int[];
    BEGIN
        locked := ARRAY(SELECT c.conversation_id FROM conversations c WHERE c.conversation_id = ANY(drafted)
                        FOR NO KEY UPDATE SKIP LOCKED);

        SELECT array_agg(d.seq ORDER BY d.nth), array_agg(d.count ORDER BY d.nth),
               array_agg(d.nth ORDER BY d.nth) FILTER (WHERE d.is_new),
               array_agg(d.seq ORDER BY d.nth) FILTER (WHERE d.is_new),
               array_agg(d.conversation ORDER BY d.nth) FILTER (WHERE d.is_new),
               array_agg(d.id ORDER BY d.nth) FILTER (WHERE d.is_new),
               array_agg(d.shard ORDER BY d.nth) FILTER (WHERE d.is_new)
        INTO seqs, counts, new_nths, new_seqs, new_in, new_ids, new_shards
        FROM (
            SELECT d.*, CASE WHEN d.is_new THEN d.last_seq + d.place END AS seq, d.message_count + d.place AS count
            FROM (
                SELECT d.*, count(*) FILTER (WHERE d.is_new) OVER (PARTITION BY d.conversation ORDER BY d.nth) AS place
                FROM (
                    SELECT d.nth, d.id, d.conversation, d.shard, c.last_seq, c.message_count,
                           c.last_seq IS NOT NULL
                           AND EXISTS (SELECT FROM members m
                                       WHERE m.conversation_id = d.conversation AND m.user_id = d.sender OFFSET 0)
                           AND NOT EXISTS (SELECT FROM messages m
                                           WHERE m.sender_id = d.sender AND m.client_message_id = d.key OFFSET 0)
                           AS is_new
                    FROM json_to_recordset(drafts)
                        AS d (nth int, id uuid, conversation uuid, sender text, key text, shard smallint)
                    LEFT JOIN LATERAL (
                        SELECT c.last_seq, c.message_count FROM conversations c
                        WHERE c.conversation_id = d.conversation AND c.conversation_id = ANY(locked) OFFSET 0) AS c ON true
                ) AS d
            ) AS d
        ) AS d;
        IF new_nths IS NULL THEN
            RETURN;
        END IF;

        -- Who writes has seen what was said before: it is noted here, since a statement of its own costs twice as much.
        WITH placed AS MATERIALIZED (
            SELECT d.*, seqs[d.nth] AS seq, counts[d.nth] AS count
            FROM json_to_recordset(drafts)
                AS d (nth int, id uuid, conversation uuid, sender text, type text, content text, key text, hash text)
            WHERE seqs[d.nth] IS NOT NULL
        ), writers AS (
            UPDATE members m SET has_written = true, seen_seq = wrote.seq, seen_count = wrote.count
            FROM (SELECT p.conversation, p.sender, max(p.seq) AS seq, max(p.count) AS count FROM placed p
                  GROUP BY p.conversation, p.sender) AS wrote
            WHERE m.conversation_id = wrote.conversation AND m.user_id = wrote.sender
        )
        INSERT INTO messages (message_id, conversation_id, seq, sender_id, type, content, client_message_id, body_hash,
                              created_at)
        SELECT p.id, p.conversation, p.seq, p.sender, p.type, p.content, p.key, decode(p.hash, 'hex'), millrace_accept.at
        FROM placed p;

        size := ARRAY[cardinality(new_nths)];
        PERFORM millrace_append(
            millrace_accept.at, new_in, new_seqs, array_fill('message'::text, size), new_ids,
            array_fill(NULL::text, size), array_fill(true, size), new_shards,
            array_fill('message.created'::text, size), array_fill(NULL::bytea, size), new_ids::text[]);
        RETURN QUERY SELECT * FROM unnest(new_nths, new_seqs);
    END
    $$;
-- Both run with the rights of their owner, and find the tables in whichever schema these are.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION millrace_append SET search_path = pg_catalog, %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION millrace_accept SET search_path = pg_catalog, %I, pg_temp', current_schema());
END $$;
REVOKE ALL ON FUNCTION millrace_append, millrace_accept FROM PUBLIC;
