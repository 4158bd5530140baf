"""A channel-day as a conversation: each nick is a member with a live connection, who joins and leaves as in the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from millrace_client import HttpClient, Listener, LiveConnection, RetryingTransport, Subscription
from millrace_client.ids import new_id

from stack.errors import OperatorError
from verify.checker import FROM_OUTSIDE, deliveries, judge_room, state_of_answers
from verify.history import Attempt, Room, Screen, Sending
from verify.replay import irc
from verify.replay.irc import Join, Part, Rename, Say
from verify.replay.quantiles import Quantiles
from verify.rules.violation import Violation
from verify.workload import DeviceKind, DeviceSpec, Send, SendMode

CHANNEL = "irc:.channel"
"""Sender of bare lines, present all day; owner of the conversation."""
WINDOW = 256
"""Messages that may be on their way to somebody: more would only fill buffers."""
_CONNECTING = 64
_QUIET_S = 60.0
_ACK_S, _READ_EVERY = 1.0, 5


@dataclass(slots=True)
class Member(Listener):
    """A stay of a nick: a live connection and its screen."""

    screen: Screen
    room: Room
    live: LiveConnection = field(init=False)
    subscription: Subscription = field(init=False)
    removed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def on_start(self, seq: int) -> None:
        """Note that the stay begins after this seq."""
        self.screen.after = seq

    def on_content(self, seq: int, raw: bytes) -> None:
        """Put the next content frame on the screen."""
        self.screen.seqs.append(seq)
        self.screen.times.append(time.perf_counter())
        self.room.frames.same(seq, raw)
        if raw.startswith(b'{"type":"conversation_changed"') and self._is_my_removal(orjson.loads(raw)):
            self.screen.until = seq
            self.removed.set()

    def on_reset(self, seq: int) -> None:
        """Take what is above the seq off the screen: it comes anew."""
        self.screen.reset(seq)

    def _is_my_removal(self, frame: dict[str, Any]) -> bool:
        return bool(frame["change"] == "member_removed" and frame["userId"] == self.screen.spec.user)

    def on_ended(self, code: str, detail: str) -> None:
        """End the stay of a member who left while disconnected: nothing more is owed."""
        if self.screen.has_left and code == "not_found":
            self.screen.until = self.screen.seqs[-1] if self.screen.seqs else self.screen.after
            self.removed.set()


@dataclass(slots=True)
class Outcome:
    """The result of a day."""

    name: str
    lines: int
    accepted: int
    members: int
    sockets: int
    expected: int
    delivered: int
    violations: list[Violation]
    raw_repeats: int
    reconnects: int


@dataclass(slots=True)
class Day:
    """Feeds one log and judges it. ``post`` and ``delivery`` collect times over all days."""

    name: str
    happenings: list[irc.Happening]
    door: RetryingTransport
    ws_url: str
    token: Callable[[str], str]
    post: Quantiles
    delivery: Quantiles
    progress: Callable[[int], None]
    speed: float | None = None
    room: Room = field(default_factory=Room)
    head: int = 0
    """Highest seq of an answer or of a frame."""
    here: dict[str, Member] = field(default_factory=dict)
    stays: list[Member] = field(default_factory=list)
    persons: dict[str, str] = field(default_factory=dict)
    """User ids by nick: a renamed nick stays the same user."""

    async def run(self) -> Outcome:
        """Feed the whole day, wait until everybody has everything, judge. Raises OperatorError."""
        acks = asyncio.create_task(self._acknowledge())
        try:
            await self._open()
            await self._feed()
            await self._until_quiet()
        finally:
            acks.cancel()
            await asyncio.gather(*(self._close(m) for m in self.stays if m.task and not m.task.done()))
        return self._judged()

    async def _open(self) -> None:
        there = [self._person(nick) for nick in irc.present_from_start(self.happenings)]
        members = sorted({*there, CHANNEL})
        self.room.conversation_id = await self._user(CHANNEL).create_conversation(members, f"#ubuntu {self.name}")
        gate = asyncio.Semaphore(_CONNECTING)

        async def enter(user: str) -> None:
            async with gate:
                await self._enter(user, after=0)

        await asyncio.gather(*(enter(user) for user in {*there, CHANNEL}))

    def _person(self, nick: str) -> str:
        return self.persons.setdefault(nick, irc.user_id(nick))

    def _user(self, user: str) -> HttpClient:
        return HttpClient(self.door, self.token(user))

    async def _enter(self, user: str, after: int | None) -> None:
        screen = Screen(DeviceSpec(user=user, device="-", kind=DeviceKind.STEADY), after or 0)
        self.room.screens.append(screen)
        member = Member(screen, self.room)
        member.live = LiveConnection(self.ws_url, self.token(user), persistent=True)
        member.subscription = member.live.subscribe(self.room.conversation_id, member, after=after)
        member.task = asyncio.create_task(member.live.run())
        self.here[user] = member
        self.stays.append(member)
        try:
            async with asyncio.timeout(_QUIET_S):
                await member.subscription.ready.wait()
        except TimeoutError as exc:
            raise OperatorError(f"{user} could not join {self.name} within {_QUIET_S:.0f} s") from exc

    async def _feed(self) -> None:
        times = irc.minutes(self.happenings)
        began = time.monotonic()
        for happening, minute in zip(self.happenings, times, strict=True):
            if self.speed is not None:
                await asyncio.sleep(max(0.0, began + minute * 60 / self.speed - time.monotonic()))
            await self._happen(happening)
            self.progress(1)

    async def _happen(self, happening: irc.Happening) -> None:
        match happening:
            case Join(nick):
                user = self._person(nick)
                if user not in self.here:
                    await self._user(CHANNEL).add_member(self.room.conversation_id, user)
                    await self._enter(user, after=None)
            case Part(nick):
                await self._part(self._person(nick))
            case Rename(old, new):
                self.persons[new] = self._person(old)
            case Say(nick, text):
                await self._say(CHANNEL if nick is None else self._person(nick), text)

    async def _part(self, user: str) -> None:
        member = self.here.pop(user, None)
        if member is None:
            return
        member.screen.has_left = True
        await self._user(user).remove_member(self.room.conversation_id, user)
        try:
            async with asyncio.timeout(_QUIET_S):
                await member.removed.wait()
        except TimeoutError:
            pass  # the judge will say that it was lost
        await self._close(member)

    async def _say(self, user: str, text: str) -> None:
        if user not in self.here:  # left, and speaks all the same: the log has not seen the return
            await self._user(CHANNEL).add_member(self.room.conversation_id, user)
            await self._enter(user, after=None)
        key = new_id()
        client, room = self._user(user), self.room.conversation_id
        posted = await client.send(room, text, client_message_id=key)
        self.post.add([posted.seconds])
        seq, now = posted.message.seq, time.perf_counter()
        send = Send(at=0.0, sender=user, key=key, content=text, mode=SendMode.PLAIN)
        status = 200 if posted.is_repeat else 201
        attempt = Attempt(posted.began, now, status, posted.message.message_id, seq)
        self.room.sendings.append(Sending(send, [attempt]))
        self.head = max(self.head, seq)
        if not seq % 16:
            await self._until_window(seq)

    async def _until_window(self, seq: int) -> None:
        give_up = time.monotonic() + _QUIET_S
        while self._slowest() < seq - WINDOW and time.monotonic() < give_up:  # noqa: ASYNC110 - sockets have no event
            await asyncio.sleep(0.005)

    def _slowest(self) -> int:
        return min((member.subscription.cursor or 0 for member in self.here.values()), default=0)

    async def _until_quiet(self) -> None:
        """Wait until everybody has the head, or nothing moves any more."""
        self.head = max((self.head, *self.room.frames.by_seq))
        head, last, moved_at = self.head, -1, time.monotonic()
        while self._slowest() < head and time.monotonic() - moved_at < _QUIET_S:
            now = sum(member.subscription.cursor or 0 for member in self.here.values())
            if now != last:
                last, moved_at = now, time.monotonic()
            await asyncio.sleep(0.02)

    async def _acknowledge(self) -> None:
        """Acknowledge once a second, and read now and then, as people's devices do."""
        rounds = 0
        while True:
            await asyncio.sleep(_ACK_S)
            rounds += 1
            for number, member in enumerate(list(self.here.values())):
                read = (rounds + number) % _READ_EVERY == 0
                await member.subscription.acknowledge(read=read)

    async def _close(self, member: Member) -> None:
        await member.live.close()
        if member.task is not None:
            await asyncio.wait({member.task}, timeout=5)

    def _judged(self) -> Outcome:
        began = {answer.seq: answer.began for sending in self.room.sendings for answer in sending.attempts}
        for screen in self.room.screens:
            known = [(began.get(seq), at) for seq, at in zip(screen.seqs, screen.times, strict=True)]
            self.delivery.add(at - sent for sent, at in known if sent is not None and at >= sent)
        for member in self.stays:
            member.screen.gaps = member.subscription.sync.gaps
        state = state_of_answers(self.room, max((self.head, *self.room.frames.by_seq)))
        expected, delivered = deliveries(self.room, state)
        return Outcome(
            name=self.name,
            lines=len(self.happenings),
            accepted=len(self.room.sendings),
            members=len({screen.spec.user for screen in self.room.screens}),
            sockets=len(self.room.screens),
            expected=expected,
            delivered=delivered,
            violations=judge_room(self.room, state, FROM_OUTSIDE),
            raw_repeats=sum(m.subscription.sync.repeats for m in self.stays),
            reconnects=sum(m.live.reconnects for m in self.stays),
        )
