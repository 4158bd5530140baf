"""Errors of a stack and of a command: one sentence that says what to do."""

from __future__ import annotations


class StackError(Exception):
    """Something on this machine is missing or in the way."""


class OperatorError(Exception):
    """One line for the operator, who gets it in place of a traceback, that says what to do."""
