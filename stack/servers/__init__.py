"""Servers for one machine: a real Kafka, PostgreSQL and Valkey from packages."""
