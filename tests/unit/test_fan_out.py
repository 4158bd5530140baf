"""Fan-out of a room: whatever way it takes, each socket gets the same bytes, in the order of the calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.protocol import State

from gateway import fan_out
from gateway.compiled_send import SOURCE, CompiledSend, is_proven, open_compiled_send
from gateway.fan_out import Flat, choose, flattener
from gateway.frame_writer import write_each, write_joined
from gateway.framing import encode
from gateway.hub import Hub
from gateway.room import Room, Socket, Subscription
from gateway.send_queue import CONTENT_MAX, REPLY_MAX, SendQueue, WriteBatcher
from runtime import native
from tests import make

Flatten = Callable[[Sequence[Any]], Any]
WAYS = ("each", "flat", "compiled")
OTHER = "01900000-0000-7000-8000-0000000000bb"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    if native.build(SOURCE, folder) is None:
        pytest.skip("no C compiler is here")
    return folder


@pytest.fixture(scope="module")
def compiled(environment: Path) -> CompiledSend:
    send = open_compiled_send(environment=environment)
    assert send is not None
    return send


@pytest.fixture(params=WAYS)
def flatten(request: pytest.FixtureRequest) -> Flatten | None:
    """Each of the three ways: each frame to each queue, a flat list, and that with the compiled loop."""
    if request.param == "compiled":
        send = request.getfixturevalue("compiled")
        return lambda queues: Flat(queues, send, few=1)
    return flattener(None) if request.param == "flat" else None


# over real sockets


@dataclass
class Floor:
    """A hub with a room whose live sockets are real."""

    hub: Hub
    room: Room
    lagging: list[Subscription]
    places: list[Subscription] = field(default_factory=list)

    def peer(self, n: int) -> ServerConnection:
        return self.queue(n).socket

    def queue(self, n: int) -> SendQueue:
        outbound = self.places[n].socket.outbound
        assert isinstance(outbound, SendQueue)
        return outbound

    def say(self, *texts: str) -> None:
        """Release frames in this turn."""
        for text in texts:
            cursor = self.room.buffer.cursor or 0
            self.room.buffer.cursor = cursor + 1
            self.room.release(cursor + 1, encode(text.encode()))


@asynccontextmanager
async def standing(flatten: Flatten | None, count: int = 10, **client: Any) -> AsyncIterator[tuple[Floor, list]]:
    lagging: list[Subscription] = []
    hub = Hub(on_lagging=lagging.extend, batcher=WriteBatcher(flatten=flatten))
    floor = Floor(hub, Room(make.ROOM, hub.batcher, lagging.extend), lagging)
    hub.rooms[make.ROOM] = floor.room
    floor.room.buffer.start(0, 0)
    came: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def hold(peer: ServerConnection) -> None:
        came.put_nowait(peer)
        await peer.wait_closed()

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(hold, "127.0.0.1", 0, compression=None))
        port = server.sockets[0].getsockname()[1]
        clients = []
        for n in range(count):
            url = f"ws://127.0.0.1:{port}"
            clients.append(await stack.enter_async_context(connect(url, compression=None, proxy=None, **client)))
            queue = SendQueue(await came.get(), hub.batcher)
            socket = Socket(f"c{n}", f"user-{n}", queue)
            queue.subscriptions = socket.subscriptions
            place = hub.subscribe(socket, make.ROOM)
            place.place(floor.room.buffer.cursor or 0)
            assert floor.room.go_live(place)
            floor.places.append(place)
        yield floor, clients


async def received(client: ClientConnection, count: int) -> list[str]:
    async with asyncio.timeout(10):
        return [str(await client.recv()) for _ in range(count)]


async def frames_come_in_the_order_of_the_calls(flatten: Flatten | None) -> None:
    async with standing(flatten) as (floor, clients):
        floor.say("1")
        floor.say("2", "3")
        floor.queue(4).write(encode(b"an answer"))
        floor.say("4")
        await asyncio.sleep(0)
        floor.hub.batcher.join()
        floor.say("5", "6", "x" * 70_000)
        pong = await floor.peer(5).ping()
        floor.say("7")
        await asyncio.sleep(0)
        floor.queue(4).write(encode(b"another"))
        floor.say("8")
        shared = ["1", "2", "3", "4", "5", "6", "x" * 70_000, "7", "8"]
        for n, client in enumerate(clients):
            expected = [*shared[:3], "an answer", *shared[3:8], "another", "8"] if n == 4 else shared
            assert await received(client, len(expected)) == expected
        await pong


async def test_frames_come_in_the_order_of_the_calls(flatten):
    await frames_come_in_the_order_of_the_calls(flatten)


def test_and_so_they_do_under_uvloop(flatten):
    uvloop.run(frames_come_in_the_order_of_the_calls(flatten))


async def a_closing_socket_gets_nothing_after_its_close_frame(flatten: Flatten | None) -> None:
    async with standing(flatten) as (floor, clients):
        floor.say("1")
        await asyncio.sleep(0)
        floor.say("2")
        closing = asyncio.create_task(floor.peer(3).close(1000, "away"))
        await asyncio.sleep(0)
        floor.say("3", "4")
        floor.peer(6).transport.abort()
        floor.say("5")
        await asyncio.sleep(0)
        floor.say("6")
        assert [str(text) async for text in clients[3]] == ["1", "2"]
        assert clients[3].close_code == 1000
        await closing
        for n in (0, 1, 2, 4, 5, 7, 8, 9):
            assert await received(clients[n], 6) == [*"123456"]


async def test_a_closing_socket_gets_nothing_after_its_close_frame(flatten):
    await a_closing_socket_gets_nothing_after_its_close_frame(flatten)


def test_nor_does_it_under_uvloop(flatten):
    uvloop.run(a_closing_socket_gets_nothing_after_its_close_frame(flatten))


async def a_slow_socket_gets_whole_frames_up_to_where_it_lags(flatten: Flatten | None) -> None:
    async with standing(flatten, count=3, max_queue=1, close_timeout=0.1) as (floor, clients):
        quick = [asyncio.create_task(drain(client)) for client in clients[1:]]
        sent = 0
        async with asyncio.timeout(20):
            while floor.places[0] not in floor.lagging:
                sent += 3
                floor.say(*(f"{n} " + "x" * 30_000 for n in range(sent - 2, sent + 1)))
                await asyncio.sleep(0)
        assert [place for place in floor.lagging if place is not floor.places[0]] == []
        assert CONTENT_MAX < floor.queue(0).waiting < REPLY_MAX
        assert floor.queue(0).handed >= floor.queue(0).waiting, "what waits was counted"
        for task in quick:
            task.cancel()
        texts = await received(clients[0], floor.places[0].cursor)
        assert [int(text.split()[0]) for text in texts] == list(range(1, floor.places[0].cursor + 1))
        assert {len(text.split()[1]) for text in texts} == {30_000}


async def drain(client: ClientConnection) -> None:
    while True:
        await client.recv()


async def test_a_slow_socket_gets_whole_frames_up_to_where_it_lags(flatten):
    await a_slow_socket_gets_whole_frames_up_to_where_it_lags(flatten)


def test_and_so_it_does_under_uvloop(flatten):
    uvloop.run(a_slow_socket_gets_whole_frames_up_to_where_it_lags(flatten))


# the flat list beside the queues, in every order of calls


class Taking:
    """A connection that keeps what is written, and of which as much waits as it is told."""

    def __init__(self) -> None:
        self.transport, self.protocol = self, SimpleNamespace(state=State.OPEN)
        self.got, self.taken = b"", 0

    def get_write_buffer_size(self) -> int:
        return len(self.got) - self.taken

    def write(self, data: bytes) -> None:
        assert self.protocol.state is State.OPEN
        self.got += data

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> None:
        return None


ROOMS = (make.ROOM, OTHER)


def steps_in(rooms: int, sizes: Sequence[int]) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    """Steps of a trial, with releases in so many rooms."""
    step = st.one_of(
        st.tuples(st.just("release"), st.integers(0, rooms - 1), st.sampled_from(sizes)),
        st.tuples(st.just("write"), st.integers(0, 2), st.sampled_from(sizes)),
        st.tuples(st.sampled_from(["turn", "join"]), st.just(0), st.just(0)),
        st.tuples(st.just("again"), st.integers(0, rooms - 1), st.just(0)),
        st.tuples(st.sampled_from(["take", "close", "flush"]), st.integers(0, 2), st.just(0)),
        st.tuples(st.sampled_from(["leave", "come", "hide", "ahead"]), st.integers(0, 2), st.integers(0, 1)),
    )
    return st.lists(step, max_size=40)


class Trial:
    """Three sockets in two rooms, which a fourth one keeps open."""

    def __init__(self, flatten: Flatten | None) -> None:
        self.lagging: list[tuple[str, str, int]] = []
        self.hub = Hub(batcher=WriteBatcher(flatten=flatten), on_lagging=self.note)
        self.peers = [Taking() for _ in range(4)]
        self.sockets = [self.socket(n, peer) for n, peer in enumerate(self.peers)]
        self.rooms = [self.hub.subscribe(self.sockets[3], room).room for room in ROOMS]
        for n, room in enumerate(self.rooms):
            room.buffer.start(0, 0)
            for socket in range(3):
                self.come(socket, n, "")

    def socket(self, n: int, peer: Taking) -> Socket:
        queue = SendQueue(peer, self.hub.batcher)
        socket = Socket(f"c{n}", f"user-{n}", queue)
        queue.subscriptions = socket.subscriptions
        return socket

    def note(self, lagging: Sequence[Subscription]) -> None:
        self.lagging += [(each.socket.user_id, each.room.conversation_id, each.cursor) for each in lagging]

    def queue(self, n: int) -> SendQueue:
        queue = self.sockets[n].outbound
        assert isinstance(queue, SendQueue)
        return queue

    def release(self, n: int, size: int, text: str) -> None:
        room = self.rooms[n]
        cursor = room.buffer.cursor = (room.buffer.cursor or 0) + 1
        room.release(cursor, encode(f"room {n} {text}".encode() + b"x" * size))

    def again(self, n: int, _: int, text: str) -> None:
        self.rooms[n].send_again(self.rooms[n].buffer.cursor or 0, encode(f"room {n} {text}".encode()))

    def write(self, n: int, size: int, text: str) -> None:
        self.queue(n).write(encode(text.encode() + b"x" * size), REPLY_MAX)

    def join(self, *_: object) -> None:
        self.hub.batcher.join()

    def take(self, n: int, *_: object) -> None:
        self.peers[n].taken = len(self.peers[n].got)

    def close(self, n: int, *_: object) -> None:
        self.queue(n).flush()
        self.peers[n].protocol.state = State.CLOSING

    def flush(self, n: int, *_: object) -> None:
        self.queue(n).flush()

    def leave(self, n: int, room: int, _: str) -> None:
        if (place := self.sockets[n].subscriptions.get(ROOMS[room])) is not None:
            self.hub.unsubscribe(place)

    def come(self, n: int, room: int, _: str, ahead: int = 0) -> None:
        if ROOMS[room] not in self.sockets[n].subscriptions:
            place = self.hub.subscribe(self.sockets[n], ROOMS[room])
            place.place((self.rooms[room].buffer.cursor or 0) + ahead)
            assert self.rooms[room].go_live(place)

    def ahead(self, n: int, room: int, text: str) -> None:
        self.come(n, room, text, 2)

    def hide(self, n: int, room: int, _: str) -> None:
        if (place := self.sockets[n].subscriptions.get(ROOMS[room])) is not None:
            place.confirm(0, (self.rooms[room].buffer.cursor or 0) + 2)


async def outcome(steps: Sequence[tuple[str, int, int]], flatten: Flatten | None) -> list[object]:
    """Carry out the steps; return what each socket was written, and who lags where."""
    trial = Trial(flatten)
    for number, (step, n, more) in enumerate(steps):
        if step in ("turn", "take"):  # what is taken within a turn lets those take more who are given to later
            await asyncio.sleep(0)
        if step != "turn":
            getattr(trial, step)(n, more, f"{number} ")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return [*(peer.got for peer in trial.peers), sorted(trial.lagging)]


@settings(max_examples=100, deadline=None)
@given(steps_in(1, [10, 9_000, 300_000]))
def test_each_socket_is_written_the_same_in_whatever_way(steps):
    assert asyncio.run(outcome(steps, flattener(None))) == asyncio.run(outcome(steps, None))


@settings(max_examples=100, deadline=None)
@given(steps_in(2, [10, 200]))
def test_each_room_and_what_is_written_to_a_socket_alone_keep_their_order(steps):
    flat, each = (asyncio.run(outcome(steps, flatten)) for flatten in (flattener(None), None))
    for ours, reference in zip(flat[:-1], each[:-1], strict=True):
        for other in (b"room 0", b"room 1"):
            assert without(other, ours) == without(other, reference)


def without(text: bytes, data: object) -> list[bytes]:
    assert isinstance(data, bytes)
    return [frame for frame in data.split(b"\x81") if text not in frame]


# proofs


def lying(compiled: CompiledSend, kind: str) -> CompiledSend:
    def send(sockets: Sequence[int], data: bytes) -> list[tuple[int, int]]:
        match kind:
            case "says it has sent":
                return []
            case "sends twice":
                compiled(sockets, data)
                return compiled(sockets, data)
            case "leaves one out":
                return compiled(list(sockets)[:-1], data)
            case "counts too little":
                return [(n, max(0, taken - 1)) for n, taken in compiled(sockets, data)]
        return [(n + 1, taken) for n, taken in compiled(sockets, data)]

    return send


LIES = ["says it has sent", "sends twice", "leaves one out", "counts too little", "names another"]


@pytest.mark.parametrize("kind", LIES)
def test_a_loop_that_does_not_do_what_it_says_is_not_used(compiled, kind: str):
    assert is_proven(compiled)
    assert not is_proven(lying(compiled, kind))


def test_without_a_library_the_log_says_so_once(tmp_path: Path):
    with structlog.testing.capture_logs() as logs:
        assert open_compiled_send(environment=tmp_path) is None
    assert [(line["event"], line["reason"]) for line in logs] == [("compiled_send_off", "not built")]


def test_a_library_that_is_none_is_not_used(environment: Path, tmp_path: Path):
    made = native.built(SOURCE, environment)
    assert made is not None
    broken = tmp_path / made.relative_to(environment)
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no library")
    assert open_compiled_send(environment=tmp_path) is None


def test_another_source_is_another_library(environment: Path, tmp_path: Path):
    changed = tmp_path / SOURCE.name
    changed.write_text(SOURCE.read_text().replace("optional", "wanted"))
    assert native.built(changed, environment) is None
    assert native.build(changed, environment) != native.built(SOURCE, environment)
    changed.write_text("int millrace_fan(")
    assert native.build(changed, environment) is None


@pytest.fixture
def found(compiled, monkeypatch: pytest.MonkeyPatch) -> Iterator[CompiledSend]:
    monkeypatch.setattr(fan_out, "open_compiled_send", lambda: compiled)
    return compiled


def run(work: Coroutine[Any, Any, None]) -> None:
    uvloop.run(work)


def compiled_of(batcher: WriteBatcher, queues: list[SendQueue]) -> Any:
    """The compiled loop of the list that the batcher makes of these queues."""
    made: Any = batcher.flatten(queues) if batcher.flatten is not None else None
    return made._compiled


def test_the_quickest_way_that_works_is_chosen(found):
    batcher = WriteBatcher()
    run(choose(batcher, compiled=True))
    assert batcher.writer is write_joined
    assert batcher.flatten is not None
    assert compiled_of(batcher, []) is None, "nobody is there to send to"
    queues = [SendQueue(Taking(), batcher) for _ in range(8)]
    assert compiled_of(batcher, queues) is found
    run(choose(batcher, compiled=False))
    assert compiled_of(batcher, queues) is None


def test_a_compiled_loop_that_breaks_frames_is_not_used(found, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fan_out, "open_compiled_send", lambda: lambda sockets, data: [])
    batcher = WriteBatcher()
    run(choose(batcher, compiled=True))
    assert batcher.flatten is not None
    assert compiled_of(batcher, [SendQueue(Taking(), batcher) for _ in range(8)]) is None


def test_where_websockets_has_changed_no_flat_list_is_used(monkeypatch: pytest.MonkeyPatch):
    async def other() -> Any:
        return write_each

    monkeypatch.setattr(fan_out, "probe_writer", other)
    batcher = WriteBatcher()
    run(choose(batcher, compiled=True))
    assert (batcher.writer, batcher.flatten) == (write_each, None)


async def test_a_transport_with_tls_is_never_passed_over(compiled):
    class Tls(Taking):
        def get_extra_info(self, name: str) -> Any:
            return object()

    peer = Tls()
    assert Flat([SendQueue(peer, WriteBatcher())], compiled, few=1).send(b"secret") == []
    assert peer.got == b"secret"
