-- depends: 0017.retention
-- The audit deletes what operators' records have outlived, and nothing younger: it may call these functions, and may
-- delete no row. They run with the rights of their owner; their names are looked up here, once, in whichever schema the
-- tables are. Each returns the number of rows deleted, and where the next step goes on.

CREATE OR REPLACE FUNCTION millrace_redeem_ticket(shown bytea)
    RETURNS TABLE (user_id text, token_expires_at float8, jti text, issued_at float8, origin text, in_time boolean)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        DELETE FROM tickets t WHERE t.ticket_hash = shown
        RETURNING t.user_id, t.token_expires_at, t.jti, t.issued_at, t.origin, t.ends > clock_timestamp();
    END;

-- Revocations whose tokens have all expired.
CREATE FUNCTION millrace_prune_revocations(after timestamptz, most bigint)
    RETURNS TABLE (deleted bigint, reached text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH old AS MATERIALIZED (
            SELECT r.revocation_id, r.ends FROM revocations r
            WHERE r.ends < now() AND r.ends >= coalesce(after, '-infinity')
            ORDER BY r.ends LIMIT most
        ), gone AS (
            DELETE FROM revocations WHERE revocation_id = ANY(ARRAY(SELECT old.revocation_id FROM old)) RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = most THEN max(old.ends)::text END FROM old;
    END;

-- A dead letter is kept 7 days; so long is it of interest that it was closed.
CREATE FUNCTION millrace_prune_dead_letters_closed(after timestamptz, most bigint)
    RETURNS TABLE (deleted bigint, reached text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH old AS MATERIALIZED (
            SELECT d.letter_id, d.closed_at FROM dead_letters_closed d
            WHERE d.closed_at < now() - interval '8 days' AND d.closed_at >= coalesce(after, '-infinity')
            ORDER BY d.closed_at LIMIT most
        ), gone AS (
            DELETE FROM dead_letters_closed WHERE letter_id = ANY(ARRAY(SELECT old.letter_id FROM old)) RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = most THEN max(old.closed_at)::text END FROM old;
    END;

-- Records that were stepped over, for as long as a topic may keep them.
CREATE FUNCTION millrace_prune_skipped_records(after timestamptz, most bigint)
    RETURNS TABLE (deleted bigint, reached text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH old AS MATERIALIZED (
            SELECT s.reader, s.topic, s.partition, s.log_offset, s.skipped_at FROM skipped_records s
            WHERE s.skipped_at < now() - interval '31 days' AND s.skipped_at >= coalesce(after, '-infinity')
            ORDER BY s.skipped_at LIMIT most
        ), gone AS (
            DELETE FROM skipped_records s
            WHERE (s.reader, s.topic, s.partition, s.log_offset) IN (
                SELECT old.reader, old.topic, old.partition, old.log_offset FROM old) RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = most THEN max(old.skipped_at)::text END FROM old;
    END;

-- A late place in a topic is of interest for as long as the topic keeps it.
CREATE FUNCTION millrace_prune_audit_heals(after timestamptz, most bigint)
    RETURNS TABLE (deleted bigint, reached text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH old AS MATERIALIZED (
            SELECT h.message_id, h.at FROM audit_heals h
            WHERE h.at < now() - interval '31 days' AND h.at >= coalesce(after, '-infinity')
            ORDER BY h.at LIMIT most
        ), gone AS (
            DELETE FROM audit_heals WHERE message_id = ANY(ARRAY(SELECT old.message_id FROM old)) RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = most THEN max(old.at)::text END FROM old;
    END;

-- Whatever the setting says, an action of an operator stays for 30 days.
CREATE FUNCTION millrace_prune_operator_actions(kept interval, after timestamptz, most bigint)
    RETURNS TABLE (deleted bigint, reached text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH old AS MATERIALIZED (
            SELECT a.action_id, a.at FROM operator_actions a
            WHERE a.at < now() - greatest(kept, interval '30 days') AND a.at >= coalesce(after, '-infinity')
            ORDER BY a.at LIMIT most
        ), gone AS (
            DELETE FROM operator_actions WHERE action_id = ANY(ARRAY(SELECT old.action_id FROM old)) RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = most THEN max(old.at)::text END FROM old;
    END;

REVOKE ALL ON FUNCTION millrace_redeem_ticket, millrace_prune_revocations, millrace_prune_dead_letters_closed,
    millrace_prune_skipped_records, millrace_prune_audit_heals, millrace_prune_operator_actions FROM PUBLIC;
