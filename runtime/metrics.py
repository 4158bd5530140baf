"""Metrics of the edges. Labels are names of ours, never users, conversations or content."""

from __future__ import annotations

from prometheus_client import Counter

ACCEPTED = Counter("millrace_accepted_messages_total", "Messages accepted: stored for good")
RELAYED = Counter("millrace_relayed_events_total", "Outbox rows that Kafka has acknowledged")
