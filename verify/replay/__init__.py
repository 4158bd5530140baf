"""Replay of chat logs through the front doors, with a verdict."""
