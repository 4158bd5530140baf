"""Servers for one machine: a real Kafka, PostgreSQL and Valkey as supervised children, data under one folder."""
