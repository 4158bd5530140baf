"""Environment variables with our prefix. Without pydantic: commands start faster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

PREFIX, DELIMITER, FILE = "MILLRACE_", "__", "_FILE"

BESIDE_SETTINGS = frozenset(
    {
        "MILLRACE_HTTP_URL",  # commands that act as a client
        "MILLRACE_WS_URL",
        "MILLRACE_OPERATOR",  # who runs a command, for the table operator_actions
        "MILLRACE_EXEC_WRAPPER",  # `millrace up`, for tests
        "MILLRACE_PROXY_PORTS",
        "MILLRACE_BUG",  # tests
        "MILLRACE_CLOCKS",
        "MILLRACE_IRC",
        "MILLRACE_TEST_DATA",
        "MILLRACE_IMAGE",  # compose.yaml
        "MILLRACE_SECRET",
    }
)
"""Variables that are no settings of a process. With the settings these are all that may have our prefix."""

_KUBERNETES = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
"""Kubernetes adds variables to each pod about the services of its namespace, also about one named ``millrace-…``."""


class BadSettings(ValueError):
    """Settings that cannot hold. The text says in one line which, and what they must be; it holds no value."""


def is_ours(name: str, value: str) -> bool:
    """Return whether a variable means this project: settings are read in any case."""
    if not name.upper().startswith(PREFIX):
        return False
    return not (_KUBERNETES.search(name) or (name.endswith("_PORT") and "://" in value))


def secret_of(file: Path) -> str:
    """Return the secret in a file, without the newline that ends it. Raises OSError, UnicodeDecodeError."""
    return file.read_text(encoding="utf-8").rstrip("\r\n")


def value_of(name: str, environment: Mapping[str, str]) -> str | None:
    """Return the value of a secret, from the variable or from the file that NAME_FILE names; None where neither is set.

    Raises BadSettings.
    """
    value, file = environment.get(name), environment.get(f"{name}{FILE}")
    if not file:
        return value
    if value:
        raise BadSettings(f"{name} must be left out with {name}{FILE}")
    try:
        secret = secret_of(Path(file))
    except (OSError, UnicodeDecodeError) as exc:
        raise BadSettings(f"{name}{FILE} must name a file of text that can be read: {file}") from exc
    if not secret:
        raise BadSettings(f"{name}{FILE} must name a file that is not empty: {file}")
    return secret
