"""What a command answers instead of a traceback."""

from __future__ import annotations


class OperatorError(Exception):
    """One line for the operator that says what to do."""
