"""Errors of a stack and of a command. The text is one sentence that says what to do."""

from __future__ import annotations


class StackError(Exception):
    """A program, file or port of this machine is missing or in the way."""


class OperatorError(Exception):
    """A command cannot do its work. The text is one line that says what to do; it replaces the traceback."""
