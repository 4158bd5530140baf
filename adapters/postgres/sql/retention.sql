-- A statement for each table of domain/retention.py. It goes along an index from ``after`` on, so that a round passes but
-- once over what is deleted and still seen by an old snapshot. It returns the number of rows deleted, and where the next
-- one goes on.

-- name: bounds
-- By index: the statistics of a table that grows are those of a smaller one.
SELECT set_config('statement_timeout', '30s', true), set_config('enable_seqscan', 'off', true),
       set_config('jit', 'off', true);

-- name: outbox
WITH old AS MATERIALIZED (
    SELECT ctid, published_at FROM outbox
    WHERE published_at < now() - make_interval(secs => %(published_events_s)s)
      AND published_at >= coalesce(%(after)s::timestamptz, '-infinity')
    ORDER BY published_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM outbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) RETURNING 1
)
SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = %(limit)s THEN max(published_at)::text END FROM old;

-- name: outbox_floors
-- All but the highest.
WITH old AS MATERIALIZED (
    SELECT f.ctid
    FROM generate_series(0, 15) AS s (shard)
    CROSS JOIN (VALUES (false), (true)) AS kind (again)
    CROSS JOIN LATERAL (
        SELECT ctid FROM outbox_floors
        WHERE shard = s.shard AND again = kind.again
        ORDER BY position DESC OFFSET 1 LIMIT %(limit)s
    ) AS f
    LIMIT %(limit)s
), gone AS (
    DELETE FROM outbox_floors WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) RETURNING 1
)
SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = %(limit)s THEN coalesce(%(after)s, '') END FROM old;

-- name: log_ends
-- All but the highest of each place.
WITH RECURSIVE tops AS (
    (SELECT epoch, place, reached FROM log_ends ORDER BY epoch DESC, place DESC, reached DESC LIMIT 1)
    UNION ALL
    SELECT next.epoch, next.place, next.reached FROM tops CROSS JOIN LATERAL (
        SELECT epoch, place, reached FROM log_ends WHERE (epoch, place) < (tops.epoch, tops.place)
        ORDER BY epoch DESC, place DESC, reached DESC LIMIT 1) AS next
), old AS MATERIALIZED (
    SELECT lower.ctid FROM tops CROSS JOIN LATERAL (
        SELECT ctid FROM log_ends
        WHERE epoch = tops.epoch AND place = tops.place AND reached < tops.reached
        ORDER BY reached DESC LIMIT %(limit)s) AS lower
    LIMIT %(limit)s
), gone AS (
    DELETE FROM log_ends WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) RETURNING 1
)
SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = %(limit)s THEN coalesce(%(after)s, '') END FROM old;

-- name: tickets
WITH old AS MATERIALIZED (
    SELECT ticket_hash, ends FROM tickets
    WHERE ends < now() AND ends >= coalesce(%(after)s::timestamptz, '-infinity')
    ORDER BY ends LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM tickets WHERE ticket_hash = ANY(ARRAY(SELECT ticket_hash FROM old)) RETURNING 1
)
SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = %(limit)s THEN max(ends)::text END FROM old;

-- name: idempotency_keys
WITH old AS MATERIALIZED (
    SELECT ctid, ends FROM idempotency_keys
    WHERE ends < now() AND ends >= coalesce(%(after)s::timestamptz, '-infinity')
    ORDER BY ends LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) RETURNING 1
)
SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = %(limit)s THEN max(ends)::text END FROM old;

-- name: notifications
-- Ids are UUIDv7, so the primary key goes by time. Those that are unseen and not yet old enough are passed over.
WITH page AS MATERIALIZED (
    SELECT notification_id, seen_at FROM notifications
    WHERE notification_id > coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')
      AND notification_id < (lpad(to_hex((extract(epoch FROM now() - make_interval(secs => least(
              %(seen_notifications_s)s::float8, %(unseen_notifications_s)s))) * 1000)::bigint), 12, '0')
              || '00000000000000000000')::uuid
    ORDER BY notification_id LIMIT %(limit)s
), old AS MATERIALIZED (
    SELECT ctid FROM notifications n
    WHERE notification_id = ANY(ARRAY(SELECT notification_id FROM page))
      AND created_at < now() - make_interval(
          secs => CASE WHEN seen_at IS NULL THEN %(unseen_notifications_s)s::float8 ELSE %(seen_notifications_s)s END)
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM notifications WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) RETURNING 1
)
SELECT (SELECT count(*) FROM gone),
       CASE WHEN count(*) = %(limit)s THEN (SELECT notification_id FROM page ORDER BY notification_id DESC LIMIT 1)::text
       END
FROM page;

-- name: analytics_minutes
WITH old AS MATERIALIZED (
    SELECT ctid, minute FROM analytics_minutes
    WHERE minute < now() - make_interval(secs => %(analytics_minutes_s)s)
      AND minute >= coalesce(%(after)s::timestamptz, '-infinity')
    ORDER BY minute LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM analytics_minutes WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) RETURNING 1
)
SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = %(limit)s THEN max(minute)::text END FROM old;

-- name: device_receipts
-- Along the primary key: an index by time would be written with each receipt.
WITH page AS MATERIALIZED (
    SELECT ctid, conversation_id, user_id, device, at FROM device_receipts
    WHERE (conversation_id, user_id, device) > (
        coalesce(%(after)s::jsonb ->> 0, '00000000-0000-0000-0000-000000000000')::uuid,
        coalesce(%(after)s::jsonb ->> 1, ''), coalesce(%(after)s::jsonb ->> 2, ''))
    ORDER BY conversation_id, user_id, device LIMIT %(limit)s
), old AS MATERIALIZED (
    SELECT ctid FROM device_receipts
    WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM page WHERE at < now() - make_interval(secs => %(silent_devices_s)s)))
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM device_receipts WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) RETURNING 1
)
SELECT (SELECT count(*) FROM gone),
       CASE WHEN count(*) = %(limit)s THEN (
           SELECT jsonb_build_array(conversation_id, user_id, device)::text FROM page
           ORDER BY conversation_id DESC, user_id DESC, device DESC LIMIT 1) END
FROM page;

-- name: revocations
-- Of the next five the functions of the database decide what is old enough: see the migration 0019.
SELECT deleted, reached FROM millrace_prune_revocations(%(after)s::timestamptz, %(limit)s);

-- name: dead_letters_closed
SELECT deleted, reached FROM millrace_prune_dead_letters_closed(%(after)s::timestamptz, %(limit)s);

-- name: skipped_records
SELECT deleted, reached FROM millrace_prune_skipped_records(%(after)s::timestamptz, %(limit)s);

-- name: audit_heals
SELECT deleted, reached FROM millrace_prune_audit_heals(%(after)s::timestamptz, %(limit)s);

-- name: operator_actions
SELECT deleted, reached FROM millrace_prune_operator_actions(
    make_interval(secs => %(operator_actions_s)s), %(after)s::timestamptz, %(limit)s);
