-- depends: 0010.trust
-- A gateway redeems a ticket that it was shown, and sees no other: it may call this, and may not read the table.
-- It runs with the rights of its owner; its names are looked up here, once, and in no schema of the caller.

CREATE FUNCTION millrace_redeem_ticket(shown bytea)
    RETURNS TABLE (user_id text, token_expires_at float8, jti text, issued_at float8, origin text, in_time boolean)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        DELETE FROM tickets t WHERE t.ticket_hash = shown
        RETURNING t.user_id, t.token_expires_at, t.jti, t.issued_at, t.origin, t.ends > clock_timestamp();
    END;
REVOKE ALL ON FUNCTION millrace_redeem_ticket(bytea) FROM PUBLIC;
