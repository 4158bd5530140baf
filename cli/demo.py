"""``millrace demo``: two users chat through HTTP and WebSocket; times of each step of each message."""

from __future__ import annotations

import asyncio
import json
import statistics
import textwrap
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.client_errors import client_errors
from cli.command import AsJson, Data, find_target
from cli.target import Server, Target
from runtime.terminal import RowWriter
from stack.errors import OperatorError

if TYPE_CHECKING:
    from millrace_client import HttpClient, Listener, Subscription

LINES = (
    ("alice", "Did the mill start this morning?"),
    ("bob", "It did. The water came late, the wheel did not mind."),
    ("alice", "And the grain?"),
    ("bob", "Every sack that went in came out. I counted them twice."),
    ("alice", "In the order they came?"),
    ("bob", "Sack by sack. Even the one that fell off the cart."),
    ("alice", "What about the night the power went?"),
    ("bob", "The book was on the table. We read on from the last line."),
    ("alice", "So nobody got flour twice."),
    ("bob", "Nobody. Go and look, it is all in the book."),
)
_PATIENCE_S = 20.0


def demo(
    messages: Annotated[int, typer.Option(help="Number of messages.", min=1, max=10_000)] = 10,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Let two users chat through HTTP and WebSocket; print the milliseconds of each step of each message."""
    import uvloop

    target = find_target(data, Server.HTTP, Server.WEBSOCKET, Server.SECRET)
    if not as_json:
        print("milliseconds since the POST began")
        _TABLE.headings()
    with client_errors():
        lives = uvloop.run(Chat(target, (lambda _: None) if as_json else _show).run(messages))
    if as_json:
        print(json.dumps({"messages": [life.milliseconds() for life in lives], "medians": medians(lives)}))
    else:
        _show_medians(medians(lives))


@dataclass(slots=True)
class Life:
    """A message; times are ``time.perf_counter()``, each waited for by its own event."""

    sender: str
    content: str
    seq: int = 0
    began: float = 0.0
    at: dict[str, float] = field(default_factory=dict)
    reached: dict[str, asyncio.Event] = field(
        default_factory=lambda: {name: asyncio.Event() for name in ("socket", "delivered", "read")}
    )

    def mark(self, name: str) -> None:
        """The message has come so far; only the first time counts."""
        self.at.setdefault(name, time.perf_counter())
        self.reached[name].set()

    def milliseconds(self) -> dict[str, Any]:
        """Return the times since the POST began."""
        times = {name: round((at - self.began) * 1000, 2) for name, at in self.at.items()}
        return {"seq": self.seq, "sender": self.sender, **times}


def medians(lives: list[Life]) -> dict[str, float]:
    """Return the median of each time, in milliseconds since the POST began."""
    names = ("accepted", "socket", "delivered", "read")
    return {name: round(statistics.median(life.milliseconds()[name] for life in lives), 2) for name in names}


@dataclass(slots=True)
class Chat:
    """Alice and Bob. ``on_read`` gets each message as soon as it is read."""

    stack: Target
    on_read: Callable[[Life], None]
    now: Life | None = None

    async def run(self, count: int) -> list[Life]:
        """The lives of ``count`` messages. Raises OperatorError when one does not get through."""
        from millrace_client import HttpClient, LiveConnection, open_http

        tokens = {user: self.stack.token(user, ttl_s=3600) for user in ("alice", "bob")}
        async with open_http(self.stack.http_url) as transport:
            clients = {user: HttpClient(transport, token) for user, token in tokens.items()}
            room = await clients["alice"].create_conversation(["bob"], "At the mill")
            connections = {user: LiveConnection(self.stack.ws_url, token) for user, token in tokens.items()}
            screens = {user: live.subscribe(room, self._screen(user), after=0) for user, live in connections.items()}
            tasks = [asyncio.create_task(live.run()) for live in connections.values()]
            try:
                for screen in screens.values():
                    await _within(screen.ready.wait, "the WebSocket did not join")
                done = []
                for number in range(count):
                    sender, content = LINES[number % len(LINES)]
                    other = "bob" if sender == "alice" else "alice"
                    done.append(await self._one(Life(sender, content), clients[sender], room, screens[other]))
                    self.on_read(done[-1])
                    await asyncio.sleep(0.05)  # light load is what is shown here
                return done
            finally:
                for live in connections.values():
                    await live.close()
                await asyncio.wait(tasks, timeout=5)

    def _screen(self, user: str) -> Listener:
        """Return what marks the current message when ``user`` sees it, or a status of it."""
        from millrace_client import Frame, Listener, StatusUpdated

        chat = self

        class Screen(Listener):
            def on_content(self, seq: int, raw: bytes) -> None:
                if chat.now is not None and chat.now.sender != user:
                    chat.now.mark("socket")

            def on_frame(self, frame: Frame, raw: bytes) -> None:
                life = chat.now
                if life is None or life.sender != user or not isinstance(frame, StatusUpdated):
                    return
                if frame.user_id != user and frame.seq >= life.seq > 0:
                    life.mark(frame.status)

        return Screen()

    async def _one(self, life: Life, client: HttpClient, room: str, receiver: Subscription) -> Life:
        self.now = life
        life.began = time.perf_counter()
        posted = await client.send(room, life.content)
        life.seq, life.began = posted.message.seq, posted.began
        life.at["accepted"] = posted.began + posted.seconds
        await _within(life.reached["socket"].wait, "the message did not reach the recipient's socket")
        await receiver.acknowledge()
        await _within(life.reached["delivered"].wait, "the sender got no status delivered")
        await receiver.acknowledge(read=True)
        await _within(life.reached["read"].wait, "the sender got no status read")
        return life


async def _within(wait: Callable[[], Awaitable[Any]], otherwise: str) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await wait()
    except TimeoutError as exc:
        raise OperatorError(f"{otherwise} within {_PATIENCE_S:.0f} s; see `millrace status` and the logs") from exc


_WIDTH = 36
_TABLE = RowWriter(
    {"seq": 5, "from": 5, "message": _WIDTH, "accepted": 8, "screen": 8, "delivered": 9, "read": 8},
    right=("seq", "accepted", "screen", "delivered", "read"),
)


def _show(life: Life) -> None:
    ms = life.milliseconds()
    times = [f"{ms[name]:.1f}" for name in ("accepted", "socket", "delivered", "read")]
    _TABLE.row((life.seq, life.sender, textwrap.shorten(life.content, _WIDTH, placeholder="…"), *times))


def _show_medians(middle: dict[str, float]) -> None:
    print(
        f"\nmedians: POST answered {middle['accepted']:.1f} ms; on the recipient's screen {middle['socket']:.1f} ms;"
        f" sender got status delivered {middle['delivered']:.1f} ms, read {middle['read']:.1f} ms"
    )
    print("Receipts of the same kind by one member wait until a second after the one before, to be sent together.")
