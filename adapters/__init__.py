"""Ports to the world: PostgreSQL, Kafka, Redis, tokens and files, and their twins in memory."""
