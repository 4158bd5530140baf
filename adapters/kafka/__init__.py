"""Kafka: the durable producer, consumers outside Faust, and administration. Only this package knows aiokafka."""
