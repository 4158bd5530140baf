-- name: find
SELECT request_hash, status FROM idempotency_keys
WHERE user_id = %(user_id)s AND key = %(key)s AND ends > now();

-- name: keep
-- Of two at the same time the first is kept.
INSERT INTO idempotency_keys AS known (user_id, key, request_hash, status, ends)
VALUES (%(user_id)s, %(key)s, %(hash)s, %(status)s, now() + make_interval(secs => %(kept_s)s))
ON CONFLICT (user_id, key) DO UPDATE
    SET request_hash = excluded.request_hash, status = excluded.status, ends = excluded.ends
    WHERE known.ends < now();
