-- name: issue
-- Tickets of the user that are one too many are removed on the way.
WITH too_many AS (
    DELETE FROM tickets WHERE ticket_hash IN (
        SELECT ticket_hash FROM tickets WHERE user_id = %(user_id)s AND ends >= now()
        ORDER BY ends DESC, ticket_hash OFFSET %(most)s - 1)
)
INSERT INTO tickets (ticket_hash, user_id, jti, issued_at, token_expires_at, origin, ends)
VALUES (%(hash)s, %(user_id)s, %(jti)s, %(issued_at)s, %(token_expires_at)s, %(origin)s,
        least(now() + make_interval(secs => %(ttl_s)s), to_timestamp(%(token_expires_at)s)))
RETURNING extract(epoch FROM ends)::float8;

-- name: redeem
SELECT user_id, token_expires_at, jti, issued_at, origin, in_time FROM millrace_redeem_ticket(%(hash)s);
