-- name: begin
INSERT INTO operator_actions (operator, command, scope) VALUES (%(operator)s, %(command)s, %(scope)s::jsonb)
RETURNING action_id;

-- name: end
UPDATE operator_actions SET result = %(result)s::jsonb WHERE action_id = %(number)s;
