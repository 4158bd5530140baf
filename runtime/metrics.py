"""Metrics of the edges. Labels are names of ours, never users, conversations or content."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

ACCEPTED = Counter("millrace_accepted_messages_total", "Messages accepted: stored for good")
RELAYED = Counter("millrace_relayed_events_total", "Outbox rows that Kafka has acknowledged")
RECORDS = Counter("millrace_stage_records_total", "Records finished", ["stage"])
DEAD_LETTERS = Counter("millrace_stage_dead_letters_total", "Records that could never work", ["stage"])
RETRIES = Counter("millrace_stage_retries_total", "Attempts repeated after transient trouble", ["stage"])
BATCH_SECONDS = Histogram("millrace_stage_batch_seconds", "From a batch's start to its acknowledgement", ["stage"])
