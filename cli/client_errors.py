"""Errors of the client library as one line for an operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stack.errors import OperatorError


@contextmanager
def client_errors() -> Iterator[None]:
    """Raise OperatorError in place of an error of the client library."""
    from millrace_client import MillraceClientError, Unavailable

    try:
        yield
    except Unavailable as exc:
        raise OperatorError(f"{exc}; see `millrace status`") from exc
    except MillraceClientError as exc:
        raise OperatorError(str(exc)) from exc
