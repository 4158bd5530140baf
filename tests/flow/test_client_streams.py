"""Streams of the client library: slow readers, stored cursors, strangers."""

from __future__ import annotations

import asyncio

import pytest
from millrace_client import (
    LiveConnection,
    MembershipEnded,
    MemoryCursors,
    NewMessage,
)
from millrace_client.client import Client, FrameStream
from millrace_client.http import HttpClient
from millrace_client.retries import open_http

from tests import make

from .conftest import World
from .following import token, until, url


async def test_a_slow_reader_pauses_the_socket_and_loses_nothing(world: World):
    for _ in range(900):
        await world.send(told=False)
    live = LiveConnection(url(world), token())
    async with open_http("http://127.0.0.1:9") as transport:
        client = Client(HttpClient(transport, live.tokens), live)
        stream = client.follow(make.ROOM, after=0)
        task = asyncio.create_task(client.run())
        await until(lambda: len(stream._frames) >= 512)
        assert not live._reading.is_open
        seqs = []
        async for frame in stream:
            if isinstance(frame, NewMessage):
                seqs.append(frame.seq)
            if len(seqs) == 900:
                break
        assert seqs == sorted(set(seqs))
        await stream.close()
        await live.close()
        await task


async def test_a_stream_stores_a_frame_as_processed_when_the_next_one_is_asked_for(world: World):
    await world.send()
    head = await world.send()
    cursors = MemoryCursors()
    live = LiveConnection(url(world), token(), cursors=cursors)
    client = Client(None, live)
    stream = client.follow(make.ROOM, after=0)
    task = asyncio.create_task(client.run())
    first = await anext(stream)
    assert cursors.load(make.ROOM).seq == 0
    second = await anext(stream)
    assert cursors.load(make.ROOM).seq == first.seq == second.seq - 1
    await live.close()
    async for _ in stream:
        pass
    assert cursors.load(make.ROOM).seq == head
    await task


async def test_a_stream_of_a_stranger_raises(world: World):
    live = LiveConnection(url(world), token("mallory"))
    client = Client(None, live)
    stream: FrameStream = client.follow(make.ROOM)
    task = asyncio.create_task(client.run())
    with pytest.raises(MembershipEnded, match="not_found"):
        while True:
            await anext(stream)
    await live.close()
    await task
