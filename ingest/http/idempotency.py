"""Repetitions of calls under an idempotency key.

The key is that of the header ``Idempotency-Key``: draft-ietf-httpapi-idempotency-key-header-07 has it as a quoted
string, and most clients send it bare. Messages and conversations are found by keys of their own for good; of calls that
answer nothing but a status, the store remembers that.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from typing import Any, cast

import msgspec
import orjson
from starlette.datastructures import Headers
from starlette.responses import Response

from domain.errors import Unavailable
from domain.idempotency import IdempotencyKeys
from ingest.http.params import wrong
from ingest.http.routing import Answer, Call, Endpoint, Endpoints
from schemas.fields import IdempotencyKey
from schemas.operations import ONCE_KEY
from schemas.routes import OPERATIONS

REPLAYED = {"idempotent-replayed": "true"}
_NAME = "Idempotency-Key"
_QUOTED = re.compile(r'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"\Z')
"""String of RFC 8941, without spaces."""


def idempotency_key(headers: Headers) -> str | None:
    """Return the key in the headers, without its quotes; None without one. Raises Invalid."""
    values = headers.getlist(_NAME)
    if not values:
        return None
    quoted = _QUOTED.match(values[0])
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else values[0]
    try:
        if len(values) > 1 or (key.startswith('"') and not quoted):
            raise ValueError("not one key")
        return msgspec.convert(key, IdempotencyKey)
    except (ValueError, msgspec.ValidationError) as exc:
        raise wrong(_NAME, "must be given once, as 1-128 visible ASCII characters") from exc


@dataclass(frozen=True, slots=True)
class Once:
    """Gives a repeated call the answer to the first one, without its effect."""

    keys: IdempotencyKeys

    def endpoints(self, endpoints: Endpoints) -> Endpoints:
        """Return those of the endpoints whose operation takes ONCE_KEY, for calls that may have one."""
        return {
            operation.id: self._of(operation.id, cast("Endpoint", endpoints[operation.id]))
            for operation in OPERATIONS
            if ONCE_KEY in operation.headers
        }

    def _of(self, operation_id: str, endpoint: Endpoint) -> Endpoint:

        @wraps(endpoint)
        async def once(call: Call[Any, Any]) -> Answer[Any] | Response:
            key = idempotency_key(call.headers)
            if key is None:
                return await endpoint(call)
            request_hash = _hash(operation_id, call)
            known = await self.keys.find(call.user, key, request_hash)
            if known is not None:
                return Answer(None, known, REPLAYED)
            answer = await endpoint(call)
            assert isinstance(answer, Answer) and answer.body is None
            with suppress(Unavailable):  # then a repetition is carried out again, which changes nothing by itself
                await self.keys.keep(call.user, key, request_hash, answer.status)
            return answer

        return once


def _hash(operation_id: str, call: Call[Any, Any]) -> bytes:
    return sha256(orjson.dumps([operation_id, dict(call.path), msgspec.to_builtins(call.body)])).digest()
