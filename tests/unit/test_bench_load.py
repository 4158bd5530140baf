"""The load client of the benchmarks, beside a server that keeps to each of its protocols, and counts what it gets."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from bench.process import BenchError, load

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
OURS = {"WS_GREETED": "1", "WS_MARKER": '"type":"new_message"', "PUBLISH": "http", "WS_SIZE": "40"}


@dataclass
class Chat:
    """A server of rooms, by WebSocket and HTTP, or by XMPP. It refuses a sender whose token is ``wrong``."""

    rooms: defaultdict[str, list[ServerConnection]] = field(default_factory=lambda: defaultdict(list))
    seqs: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    acks: list[tuple[str, int]] = field(default_factory=list)
    acked: asyncio.Event = field(default_factory=asyncio.Event)

    async def socket(self, peer: ServerConnection) -> None:
        await (self.xmpp if peer.subprotocol == "xmpp" else self.ours)(peer)

    async def ours(self, peer: ServerConnection) -> None:
        await peer.send('{"type":"connected"}')
        async for raw in peer:
            frame = orjson.loads(raw)
            if frame["type"] == "ack":
                self.acks.append((frame["conversationId"], frame["seq"]))
                self.acked.set()
                continue
            self.rooms[frame["id"]].append(peer)
            await peer.send('{"type":"joined"}')

    async def xmpp(self, peer: ServerConnection) -> None:
        async for raw in peer:
            text = str(raw)
            if text.startswith("<message"):
                for other in self.rooms["room"]:
                    await other.send(f"<message from='x'>{text[text.index('<body>') :]}")
                continue
            if text.startswith("<presence"):
                self.rooms["room"].append(peer)
            for answer in self.xmpp_answers(text):
                await peer.send(answer)

    def xmpp_answers(self, text: str) -> list[str]:
        return {
            "<open": ["<open id='1'/>", "<stream:features/>"],
            "<auth": ["<success/>"],
            "<iq t": ["<iq><bind><jid>a@localhost/1</jid></bind></iq>"],
            "<pres": ["<presence><status code='110'/></presence>"],
        }[text[:5]]

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length is not None
            body = orjson.loads(await reader.readexactly(int(length[1])))
            if b"Bearer wrong" in head:
                writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                continue
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            await self.publish(body["conversationId"], body["content"])

    async def publish(self, room: str, content: str) -> None:
        assert len(content) == 40
        self.seqs[room] += 1
        at = {"conversationId": room, "seq": self.seqs[room]}
        for peer in self.rooms[room]:
            await peer.send(orjson.dumps({"type": "new_message", **at, "message": {"content": content}}).decode())


@asynccontextmanager
async def chat() -> AsyncIterator[tuple[Chat, int, int]]:
    """Yield a server with its ports, of WebSocket and of HTTP."""
    server = Chat()
    async with serve(server.socket, "127.0.0.1", 0, subprotocols=["xmpp"], select_subprotocol=offered) as sockets:
        http = await asyncio.start_server(server.http, "127.0.0.1", 0)
        try:
            yield server, sockets.sockets[0].getsockname()[1], http.sockets[0].getsockname()[1]
        finally:
            http.close()


def offered(_: ServerConnection, names) -> str | None:
    return "xmpp" if "xmpp" in names else None


async def test_messages_go_to_the_rooms_in_turns_and_each_is_acknowledged():
    async with chat() as (server, ws, http), load(**OURS, PUBLISH_PORT=str(http), WS_ROOM="a,b", WS_ACK="1") as clients:
        await clients.do(f"open 6 2 {ws} 0")
        report = await clients.do("closed 0.2 4")
        assert report["messages"] > 4
        assert report["deliveries"] == 3 * report["messages"]
        assert report["lost"] == report["gaps"] == 0
        assert 0 < report["last_p50_ms"] <= report["last_p99_ms"] <= report["longest_ms"]
        assert 0 < report["post_p50_ms"] <= report["post_p99_ms"]
        await clients.do("closed 0 1")  # what was written before has arrived
        assert sum(server.seqs.values()) == report["messages"]
        assert abs(server.seqs["a"] - server.seqs["b"]) <= 1
        while len(server.acks) < report["deliveries"]:
            server.acked.clear()
            await server.acked.wait()
        assert {room: len([seq for id_, seq in server.acks if id_ == room]) for room in "ab"} == {
            room: 3 * server.seqs[room] for room in "ab"
        }


async def test_at_a_pace_each_delivery_is_noted():
    async with chat() as (_, ws, http), load(**OURS, PUBLISH_PORT=str(http), WS_ROOM="a") as clients:
        await clients.do(f"open 3 1 {ws} 0")
        report = await clients.do("paced 0.2 100")
        assert (report["messages"], report["deliveries"], report["lost"]) == (20, 60, 0)
        assert report["p50_ms"] <= report["last_p99_ms"]


async def test_a_room_of_xmpp_has_one_more_who_sends():
    async with chat() as (_, ws, _), load(WS_XMPP="1", WS_ROOM="room", WS_MARKER="~~", PUBLISH="xmpp") as clients:
        await clients.do(f"open 1 1 {ws} -1")
        await clients.do(f"open 3 2 {ws} -1")
        report = await clients.do("closed 0.2 4")
        assert report["messages"] > 4
        assert report["deliveries"] == 3 * report["messages"]
        assert report["post_p50_ms"] > 0


async def test_a_message_that_is_refused_ends_the_measurement():
    env = {**OURS, "HTTP_TOKEN": "wrong", "WS_ROOM": "a"}
    async with chat() as (_, ws, http), load(**env, PUBLISH_PORT=str(http)) as clients:
        await clients.do(f"open 2 1 {ws} 0")
        with pytest.raises(BenchError, match="a message was refused"):
            await clients.do("closed 0.2 1")
