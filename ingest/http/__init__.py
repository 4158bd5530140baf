"""The HTTP edge: parse, call, answer. Errors are mapped in one place."""
