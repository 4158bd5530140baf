"""The world: errors, ports, settings and the adapters to Kafka, PostgreSQL, Redis and tokens."""
