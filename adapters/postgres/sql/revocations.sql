-- name: revoke
INSERT INTO revocations (user_id, jti, ends)
VALUES (%(user_id)s, %(jti)s, now() + make_interval(secs => %(longest_s)s))
RETURNING revocation_id, user_id, jti, extract(epoch FROM at)::float8, extract(epoch FROM ends)::float8;

-- name: all
SELECT revocation_id, user_id, jti, extract(epoch FROM at)::float8, extract(epoch FROM ends)::float8
FROM revocations WHERE ends > now() ORDER BY revocation_id;

-- name: since
SELECT revocation_id, user_id, jti, extract(epoch FROM at)::float8, extract(epoch FROM ends)::float8
FROM revocations WHERE at > to_timestamp(%(since)s) AND ends > now() ORDER BY revocation_id;

-- name: time
SELECT extract(epoch FROM clock_timestamp())::float8;

-- name: note_closed
UPDATE revocations SET closed = closed + %(connections)s WHERE revocation_id = %(number)s;

-- name: closed
SELECT closed FROM revocations WHERE revocation_id = %(number)s;
