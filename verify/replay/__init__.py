"""Replaying chat logs through the front doors, and judging what came out."""
