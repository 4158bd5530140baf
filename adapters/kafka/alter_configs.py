"""IncrementalAlterConfigs (KIP-339), which aiokafka lacks: sets some settings of a topic and leaves the others alone.

The older AlterConfigs replaces all of them: a setting that an operator had made by hand was gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

_TOPIC, _SET = 2, 0


class _Response(Response):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "responses",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class _RequestV0(RequestStruct):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(("name", String("utf-8")), ("config_operation", Int8), ("value", String("utf-8"))),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class SetTopicConfigs(Request[_RequestV0]):  # type: ignore[misc]
    """Request that sets these settings: topic → name → value."""

    API_KEY = 44

    def __init__(self, settings: Mapping[str, Mapping[str, str]]) -> None:
        self._settings = settings

    def build(self, request_struct_class: type[_RequestV0]) -> _RequestV0:
        resources = [
            (_TOPIC, topic, [(name, _SET, value) for name, value in changed.items()])
            for topic, changed in self._settings.items()
        ]
        return request_struct_class(resources, False)


def errors_of(response: Any) -> list[tuple[str, int, str]]:
    """Return (topic, error code, message) of each topic that could not be changed."""
    return [(name, code, message or f"error {code}") for code, message, _, name in response.responses if code]
