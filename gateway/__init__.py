"""Out: fan-out, hub, sessions, server."""
