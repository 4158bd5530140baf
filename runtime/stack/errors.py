"""Why a stack cannot run: one sentence that says what to do."""

from __future__ import annotations


class StackError(Exception):
    """Something on this machine is missing or in the way."""
