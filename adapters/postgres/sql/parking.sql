-- name: parked
SELECT conversation_id::text, failures, letters FROM parked
WHERE stage = %(stage)s AND conversation_id = ANY(%(ids)s::uuid[]);

-- name: all
SELECT conversation_id::text, failures, letters FROM parked WHERE stage = %(stage)s;

-- name: park
INSERT INTO parked AS p (stage, conversation_id, cause, failures, letters)
SELECT %(stage)s, conversation_id, cause, failures, letters
FROM unnest(%(ids)s::uuid[], %(causes)s::text[], %(failures)s::int[], %(letters)s::int[])
    AS more (conversation_id, cause, failures, letters)
ORDER BY conversation_id
ON CONFLICT (stage, conversation_id) DO UPDATE
    SET failures = p.failures + excluded.failures, letters = p.letters + excluded.letters;

-- name: unpark
DELETE FROM parked
WHERE stage = %(stage)s AND conversation_id = %(conversation_id)s::uuid AND letters = %(letters)s;

-- name: closed
SELECT letter_id::text, outcome, reason FROM dead_letters_closed WHERE stage = %(stage)s;

-- name: close
INSERT INTO dead_letters_closed (letter_id, stage, outcome, reason)
SELECT id, %(stage)s, %(outcome)s, %(reason)s FROM unnest(%(ids)s::uuid[]) AS id
ON CONFLICT DO NOTHING;
