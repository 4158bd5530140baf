"""The HTTP API: read a call, carry it out, answer. Errors are mapped to answers in one place."""
