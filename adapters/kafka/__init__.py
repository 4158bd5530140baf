"""Kafka: the durable producer, the plain consumer, and what operators need. Only here is aiokafka known."""
