"""Redis: pub/sub, the registry of connections, rate limits. All of it is a hint. Only this package knows redis."""
