"""Keys of an issuer, fetched from one fixed URL: old and new ones side by side; the last good set stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx2
import structlog

from adapters.auth.keys import BadKeys, Key, KeySet, read_set
from domain.errors import Unavailable
from domain.identity import TokenFault, refused
from runtime.metrics import KEYS_FETCHED

_log = structlog.get_logger()

ASK_AGAIN_S = 60.0
_RETRY_S = 5.0
_FETCH_S = 2.0
_MAX_BYTES = 256 * 1024
_MAX_KID = 256
_NEVER = float("-inf")


@dataclass(slots=True)
class FetchedKeys:
    """Key set that ``fetch`` returns. ``run`` keeps it fresh.

    An unknown kid causes a fetch, at most once in ``ask_again_s``: anybody can make one up.
    """

    fetch: Callable[[], Awaitable[bytes]]
    algorithm: str
    ttl_s: float
    ask_again_s: float = ASK_AGAIN_S
    clock: Callable[[], float] = time.monotonic
    version: int = 0
    _set: KeySet = field(default_factory=lambda: KeySet({}, {}, {}))
    _asked_at: float = _NEVER
    _missed: bool = False
    _asking: asyncio.Task[None] | None = None

    async def find(self, kid: object) -> Key:
        """Return the key of this id. Raises Unauthenticated; Unavailable when the set cannot be fetched now."""
        if not isinstance(kid, str) or len(kid) > _MAX_KID:
            raise refused(TokenFault.KEY)
        if kid not in self._set.keys:
            await self._ask()
        if kid not in self._set.keys:
            unavailable = Unavailable("the issuer's keys cannot be fetched; try again")
            raise unavailable if self._missed else refused(TokenFault.KEY)
        return self._set.keys[kid]

    async def _ask(self) -> None:
        """Fetch out of turn, once for all callers that wait."""
        if self._asking is None and self.clock() - self._asked_at >= self.ask_again_s:
            self._asked_at = self.clock()
            self._asking = asyncio.create_task(self._quietly())
            self._asking.add_done_callback(self._asked)
        if self._asking is not None:
            await asyncio.shield(self._asking)

    def _asked(self, _: asyncio.Task[None]) -> None:
        self._asking = None

    async def _quietly(self) -> None:
        try:
            await self.refresh()
        except Unavailable:
            self._missed = True

    async def refresh(self) -> None:
        """Fetch the set; one that cannot be fetched or used changes nothing. Raises Unavailable."""
        try:
            found = read_set(await self.fetch(), self.algorithm)
        except BadKeys as exc:
            _log.warning("key_set_refused", algorithm=self.algorithm, reason=str(exc))
            raise Unavailable(f"the key set of MILLRACE_AUTH__JWKS_URL cannot be used: {exc}") from exc
        except Unavailable as exc:
            _log.warning("key_set_not_fetched", algorithm=self.algorithm, reason=str(exc))
            raise
        self._missed = False
        KEYS_FETCHED.set_to_current_time()
        if found.made_of != self._set.made_of:
            self._set = found
            self.version += 1
            _log.info("keys_changed", version=self.version, keys=len(found.keys), passed_over=dict(found.passed_over))

    async def first(self, wait_s: float) -> None:
        """Wait for the first set. Raises Unavailable when there is none within ``wait_s``."""
        give_up = self.clock() + wait_s
        while True:
            try:
                return await self.refresh()
            except Unavailable:
                if self.clock() >= give_up:
                    raise
            await asyncio.sleep(min(1.0, wait_s))

    async def run(self) -> None:
        """Fetch again and again, for ever."""
        wait = self.ttl_s
        while True:
            await asyncio.sleep(wait)
            try:
                await self.refresh()
                wait = self.ttl_s
            except Unavailable:
                wait = min(_RETRY_S, self.ttl_s)


async def fetch(client: httpx2.AsyncClient, url: str) -> bytes:
    """Return the document at the URL: within 2 s, without redirects, of bounded size. Raises Unavailable."""
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    try:
        async with asyncio.timeout(_FETCH_S), client.stream("GET", url, headers=headers) as answer:
            if answer.status_code != 200:
                raise Unavailable(f"the key set is answered with status {answer.status_code}")
            return await _bounded(answer)
    except (httpx2.HTTPError, TimeoutError, OSError) as exc:
        raise Unavailable(f"the key set cannot be fetched: {type(exc).__name__}") from exc


async def _bounded(answer: httpx2.Response) -> bytes:
    parts, size = [], 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > _MAX_BYTES:
            raise Unavailable(f"the key set is larger than {_MAX_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
