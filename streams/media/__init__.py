"""Probing of media files in a subprocess."""
