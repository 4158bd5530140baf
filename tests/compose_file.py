"""compose.yaml as Docker Compose reads it: merged, with its variables expanded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.checkout import ROOT

FILE = ROOT / "compose.yaml"
VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?:(?P<how>:-|:\?)(?P<text>[^}]*))?\})")
REQUIRED = {
    *("MILLRACE_SECRET", "POSTGRES_PASSWORD", "REPLICATION_PASSWORD"),
    *("INGEST_PASSWORD", "STREAMS_PASSWORD", "GATEWAY_PASSWORD", "AUDIT_PASSWORD", "OPERATOR_PASSWORD"),
}
"""Variables without which Compose refuses the file."""


class Missing(Exception):
    """A variable has no value, and the file says what to do."""


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """Expand the variables of a value (Compose specification, "Interpolation"). Raises Missing."""

    def value(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "$"
        given = environment.get(found["name"], "")
        if given or found["how"] is None:
            return given
        if found["how"] == ":?":
            raise Missing(found["text"])
        return found["text"]

    return VARIABLE.sub(value, text)


def load_compose(environment: Mapping[str, str]) -> dict[str, Any]:
    """The file, with the variables of this environment. What a variable holds is not expanded again. Raises Missing."""

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items()}
        if isinstance(node, list):
            return [walk(value) for value in node]
        return expanded(node, environment) if isinstance(node, str) else node

    found: dict[str, Any] = walk(yaml.safe_load(FILE.read_text()))
    return found
