"""Parts that every process has: settings, logs, metrics, health and the order of start and end."""
