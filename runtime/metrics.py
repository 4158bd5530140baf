"""Prometheus metrics of all processes. Labels are names from the code, never users, conversations or content."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ACCEPTED = Counter("millrace_accepted_messages_total", "Messages accepted: stored for good")
RELAYED = Counter("millrace_relayed_events_total", "Outbox rows that Kafka has acknowledged")
LOG_LOSSES = Counter("millrace_log_losses_total", "Times that the log had lost records when the relay looked")
REPUBLISHED = Counter("millrace_republished_events_total", "Outbox rows owed again because the log had lost records")
RECORDS = Counter("millrace_stage_records_total", "Records finished", ["stage"])
DEAD_LETTERS = Counter("millrace_stage_dead_letters_total", "Records that could never work", ["stage"])
RETRIES = Counter("millrace_stage_retries_total", "Attempts repeated after transient trouble", ["stage"])
LAG = Gauge("millrace_stage_lag", "Records of this worker's partitions that are not committed yet", ["stage"])
BATCH_SECONDS = Histogram("millrace_stage_batch_seconds", "From a batch's start to its acknowledgement", ["stage"])
CONNECTIONS = Gauge("millrace_connections", "Live WebSocket connections")
REFUSED = Counter("millrace_refused_connections_total", "WebSocket connections refused by a limit or a token", ["code"])
SLOW = Counter("millrace_slow_sockets_total", "Sockets closed because they took too little")
SENT_AWAY = Counter("millrace_sent_away_connections_total", "Connections that a node closed because it ends")
GHOSTS = Counter("millrace_ghost_users_total", "Users whose last connections were cleared after their node")
KEYS_FETCHED = Gauge(
    "millrace_keys_last_fetched_timestamp", "When the issuer's keys were last fetched, in Unix seconds"
)
REVOKED = Counter("millrace_revoked_connections_total", "Connections closed because their token was revoked")
DELIVERIES = Counter("millrace_deliveries_total", "Content frames handed to sockets live")
REPLAYED = Counter("millrace_replayed_frames_total", "Content frames sent from the store")
HOLES = Counter("millrace_holes_total", "Holes of feeds that were filled from the store")
LAGGING = Counter("millrace_lagging_total", "Sockets that fell behind because they read slowly")
HINTS_LOST = Counter("millrace_hints_lost_total", "Hints that Redis did not take")
AUDIT_FINDINGS = Gauge("millrace_audit_findings", "What the last audit found that is not as it must be", ["check"])
AUDIT_SECONDS = Gauge("millrace_audit_seconds", "How long the last audit took")
AUDIT_SUCCESS = Gauge("millrace_audit_last_success_timestamp", "When the last audit was finished, in Unix seconds")
PG_CONNECTIONS = Gauge("millrace_pg_connections", "Connections of the pool")
PG_IDLE = Gauge("millrace_pg_idle_connections", "Connections of the pool that nobody uses now")
PG_WAITING = Gauge("millrace_pg_waiting_requests", "Requests that wait for a connection")
