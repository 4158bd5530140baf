"""Prometheus metrics of all processes. Labels are names from the code, never users, conversations or content.

A process shows the metrics of its role only: a counter that nothing in it counts would be a zero that means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.registry import Collector

ACCEPTED = Counter("millrace_accepted_messages_total", "Messages accepted, which is: stored in PostgreSQL")
RELAYED = Counter("millrace_relayed_events_total", "Outbox rows that Kafka has acknowledged")
OLDEST_UNPUBLISHED = Gauge(
    "millrace_outbox_oldest_unpublished_seconds", "Age of the oldest outbox row that is not published; 0 without one"
)
LOG_LOSSES = Counter("millrace_log_losses_total", "Losses of log records that the relay has detected")
REPUBLISHED = Counter("millrace_republished_events_total", "Outbox rows owed again after a loss of log records")
STORE_BEHIND = Gauge(
    "millrace_store_behind_log", "1 while the relay publishes nothing, as the log holds events that the store lacks"
)
PARTITIONS_DIFFER = Gauge(
    "millrace_topic_undeclared_partitions",
    "Partitions beyond the declared number, where a topic has another",
    ["topic"],
)
RECORDS = Counter("millrace_stage_records_total", "Records finished", ["stage"])
DEAD_LETTERS = Counter("millrace_stage_dead_letters_total", "Records set aside as dead letters", ["stage"])
DROPPED = Counter(
    "millrace_stage_dropped_records_total", "Receipts dropped: of no member, or beyond the head", ["stage"]
)
RETRIES = Counter("millrace_stage_retries_total", "Attempts repeated after transient trouble", ["stage"])
LAG = Gauge("millrace_stage_lag", "Records of this worker's partitions that are not committed yet", ["stage"])
BATCH_SECONDS = Histogram(
    "millrace_stage_batch_seconds", "Seconds from a batch's start to its acknowledgement", ["stage"]
)
POLICY_FAILURES = Counter(
    "millrace_policy_failures_total", "Questions that the deployment's policy did not answer in time or at all"
)
CONNECTIONS = Gauge("millrace_connections", "Live WebSocket connections")
REFUSED = Counter("millrace_refused_connections_total", "WebSocket connections refused by a limit or a token", ["code"])
REFUSED_REQUESTS = Counter(
    "millrace_refused_requests_total",
    "HTTP calls answered with an error, and connections that the server has ended",
    ["code"],
)
SLOW = Counter("millrace_slow_sockets_total", "Sockets closed because their client read too slowly")
SENT_AWAY = Counter("millrace_sent_away_connections_total", "Connections closed by the drain of a node")
GHOSTS = Counter("millrace_ghost_users_total", "Users taken offline because their node died")
KEYS_FETCHED = Gauge("millrace_keys_last_fetched_timestamp_seconds", "Last fetch of the issuer's keys, in Unix seconds")
REVOKED = Counter("millrace_revoked_connections_total", "Connections closed because their token was revoked")
DELIVERIES = Counter("millrace_deliveries_total", "Content frames handed to sockets live")
REPLAYED = Counter("millrace_replayed_frames_total", "Content frames sent from the store")
REPLAYED_BYTES = Counter("millrace_replayed_bytes_total", "Bytes of content frames sent from the store")
CLAIMS_DENIED = Counter(
    "millrace_denied_claims_total", "Times at which Redis carried a seq beyond the head that the store has"
)
RESETS = Counter(
    "millrace_resets_total", "Cursors of sockets that began anew, since PostgreSQL is another server or went back"
)
GAPS = Counter("millrace_holes_total", "Gaps of reorder buffers that were filled from the store")
LAGGING = Counter("millrace_lagging_total", "Sockets that fell behind because they read slowly")
HINTS_LOST = Counter("millrace_hints_lost_total", "Hints that could not be published to Redis")
RECORDS_PASSED_OVER = Counter(
    "millrace_passed_over_records_total",
    "Records that a gateway showed to nobody: malformed, refused by the store for its values, unknown to it",
    ["topic", "cause"],
)
AUDIT_FINDINGS = Gauge("millrace_audit_findings", "Findings of the last audit", ["check"])
OPEN_LETTERS = Gauge("millrace_open_dead_letters", "Dead letters that nobody has closed, at the last audit", ["stage"])
AUDIT_SECONDS = Gauge("millrace_audit_duration_seconds", "Duration of the last audit in seconds")
AUDIT_SUCCESS = Gauge(
    "millrace_audit_last_success_timestamp_seconds", "End of the last complete audit, in Unix seconds"
)
PG_CONNECTIONS = Gauge("millrace_pg_connections", "Connections of the pool", ["pool"])
PG_IDLE = Gauge("millrace_pg_idle_connections", "Idle connections of the pool", ["pool"])
PG_WAITING = Gauge("millrace_pg_waiting_requests", "Requests waiting for a connection of the pool", ["pool"])
READS = Counter(
    "millrace_pg_reads_total",
    "Reads that a replica may answer, by the server that did; none without a replica",
    ["server"],
)
REPLICA_REFUSALS = Counter(
    "millrace_pg_replica_refusals_total", "Reads that were tried on the replica and answered by the primary", ["reason"]
)
REPLICA_LAG_BYTES = Gauge(
    "millrace_pg_replica_lag_bytes", "Bytes of the primary's log that the replica has not replayed", ["server"]
)
REPLICA_LAG_SECONDS = Gauge(
    "millrace_pg_replica_lag_seconds", "Age of the oldest of these bytes, as looks have seen it", ["server"]
)

_COMMON = (PG_CONNECTIONS, PG_IDLE, PG_WAITING, REFUSED_REQUESTS)
_READERS = (READS, REPLICA_REFUSALS, REPLICA_LAG_BYTES, REPLICA_LAG_SECONDS)
BY_ROLE: Mapping[str, tuple[Collector, ...]] = {
    "ingest": (
        ACCEPTED,
        RELAYED,
        OLDEST_UNPUBLISHED,
        LOG_LOSSES,
        REPUBLISHED,
        STORE_BEHIND,
        PARTITIONS_DIFFER,
        KEYS_FETCHED,
        POLICY_FAILURES,
        *_READERS,
        *_COMMON,
    ),
    "stage": (RECORDS, DEAD_LETTERS, DROPPED, RETRIES, LAG, BATCH_SECONDS, *_COMMON),
    "gateway": (
        CONNECTIONS,
        REFUSED,
        SLOW,
        SENT_AWAY,
        GHOSTS,
        KEYS_FETCHED,
        REVOKED,
        DELIVERIES,
        REPLAYED,
        REPLAYED_BYTES,
        CLAIMS_DENIED,
        RECORDS_PASSED_OVER,
        RESETS,
        GAPS,
        LAGGING,
        HINTS_LOST,
        POLICY_FAILURES,
        *_READERS,
        *_COMMON,
    ),
    "audit": (AUDIT_FINDINGS, AUDIT_SECONDS, AUDIT_SUCCESS, OPEN_LETTERS, *_READERS, *_COMMON),
}


def registry_of(role: str) -> CollectorRegistry:
    """Return the registry of a role: its metrics, and those of the process and of Python."""
    registry = CollectorRegistry()
    for collector in BY_ROLE[role]:
        registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
