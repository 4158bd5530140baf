"""Redis, a hint: pub/sub, the registry of connections, rate limits. Only this package knows redis."""
