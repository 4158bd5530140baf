"""The probe on a running stack: its messages reach every edge, and are seen there."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import cache, partial

import httpx2
from millrace_client import RetryingTransport

from adapters.auth import issue
from schemas.ids import new_id
from stack.running import RunningStack
from verify.activity import Access
from verify.edges import Edge
from verify.history import History
from verify.probe import Probe


async def test_messages_of_the_probe_reach_every_edge(stack: RunningStack):
    history = History(f"v{new_id()[-8:]}", 1)
    probe, token = Probe(history), cache(partial(issue, stack.jwt_secret, ttl_s=600))
    async with AsyncExitStack() as opened:
        client = await opened.enter_async_context(httpx2.AsyncClient(base_url=stack.http_url, timeout=10))
        opened.push_async_callback(probe.close)
        access = Access([stack.http_url], [stack.ws_url], token, client, RetryingTransport(client))
        await probe.prepare(access, [])
        sending = asyncio.create_task(probe.run())
        async with asyncio.timeout(60):
            while not all(history.measurements.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        sending.cancel()
        await probe.settle()
    missing = {edge for edge in Edge if any(each.ended is None for each in history.measurements[edge])}
    assert missing == set()
