-- name: current
SELECT epoch FROM log_state;

-- name: of
SELECT partition, epoch FROM stage_epochs WHERE stage = %(stage)s AND partition = ANY(%(partitions)s::text[]);

-- name: reached
INSERT INTO stage_epochs AS e (stage, partition, epoch)
SELECT %(stage)s, partition, %(epoch)s FROM unnest(%(partitions)s::text[]) AS partition ORDER BY partition
ON CONFLICT (stage, partition) DO UPDATE SET epoch = GREATEST(e.epoch, excluded.epoch);
