"""In: HTTP, accept, outbox, relay."""
