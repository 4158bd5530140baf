"""Audit: compares the store, the topics and the stages, message by message, while they work."""
