"""Workloads, generated from a seed: who sends what where and how, and which devices receive. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

ROOMS = 20
MEMBERS = (5, 8)
"""Members of a small room who have a device, the leaver included."""
_WORDS = ("mill", "race", "wheel", "grain", "water", "stone", "sack", "sluice", "früh", "późno", "水車", "🌾")


class SendMode(StrEnum):
    """A client's way to send a message."""

    PLAIN = "plain"
    """Repeat with the same key until it is answered."""
    PARALLEL = "parallel"
    """Send the same request several times at once."""
    IMPATIENT = "impatient"
    """Hang up at once, then repeat."""
    FORGETFUL = "forgetful"
    """Hang up at once and never repeat: the outcome stays unknown."""
    RESIGNED = "resigned"
    """Repeat unknown outcomes, and never ask again once the answer is that surely nothing was stored."""
    MISMATCH = "mismatch"
    """Once it is accepted, send other content under the same key."""
    STRANGER = "stranger"
    """Send as a user who is no member."""


class DeviceKind(StrEnum):
    """Behaviour of a device."""

    STEADY = "steady"
    FLAKY = "flaky"
    """Loses its connection every few seconds, and resumes."""
    SLOW = "slow"
    """Reads nothing for seconds."""
    DYING = "dying"
    """Ends with all that was on its way, and starts again from what it had stored."""
    LATE = "late"
    """Comes in the middle, and reads from the beginning."""
    PHONE = "phone"
    """The only device of its user: connects for some seconds, goes away for longer, and so on."""


_MODES = {
    SendMode.PLAIN: 73,
    SendMode.RESIGNED: 15,
    SendMode.PARALLEL: 3,
    SendMode.IMPATIENT: 4,
    SendMode.FORGETFUL: 2,
    SendMode.MISMATCH: 2,
    SendMode.STRANGER: 1,
}
_SECOND = (DeviceKind.FLAKY, DeviceKind.SLOW, DeviceKind.DYING, DeviceKind.LATE)
"""Kinds of the second device of a member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A message to send, ``at`` seconds after the start or later."""

    at: float
    sender: str
    key: str
    content: str
    mode: SendMode
    type: str = "text"
    attachments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """A device of a member. An ``insistent`` one repeats its receipts on each connection; others as the
    client library does."""

    user: str
    device: str
    kind: DeviceKind
    insistent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomWorkload:
    """A conversation. ``leaver`` is removed in the middle and becomes a member again later."""

    owner: str = ""
    members: tuple[str, ...] = ()
    leaver: str = ""
    stranger: str = ""
    devices: tuple[DeviceSpec, ...] = ()
    sends: tuple[Send, ...] = ()
    idle: tuple[str, ...] = ()
    """Members who are connected, and follow no conversation."""
    absent: tuple[str, ...] = ()
    """Members who never connect."""

    @property
    def away(self) -> frozenset[str]:
        """Members of whom no device follows the conversation for all of the run; they send nothing."""
        phones = (spec.user for spec in self.devices if spec.kind is DeviceKind.PHONE)
        return frozenset((*phones, *self.idle, *self.absent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Numbers of a room's members who have devices (the leaver included), only a phone, and none; and the share of the
    first who have a second device."""

    with_devices: int
    phones: int
    absent: int
    second: float


LARGE = (
    Size(with_devices=14, phones=6, absent=18, second=0.2),
    Size(with_devices=22, phones=8, absent=68, second=0.2),
)
"""Rooms of 40 and of 100 members with the two idle ones: beyond 32, senders get no watermarks but those that change a
status; beyond 64, a member gets one notification for all messages that follow."""
_IDLE = 2
_SECOND_IN_SMALL = 0.6
_PHONE_EACH = 3  # rooms


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cast:
    """The people of a room. ``active`` ones send, and have a device that is always there."""

    active: Sequence[str]
    leaver: str
    stranger: str
    phones: Sequence[str]
    idle: Sequence[str]
    absent: Sequence[str]
    second: float


def generate(
    seed: int, messages: int, rate: float, *, run: str, rooms: int = ROOMS, large: Sequence[Size] = LARGE
) -> list[RoomWorkload]:
    """Return the workloads of a run: small rooms, and large ones. ``rate`` is in messages a second; ``run`` makes user
    ids and keys unique.

    Every content begins with ``run``, so that a log that holds one is found.
    """
    chance = random.Random(seed)
    users = [f"{run}.u{n:02}" for n in range(2 * rooms)]
    sizes = [*(_small(chance, room) for room in range(rooms)), *large]
    casts = [_cast(chance, users, size, f"{run}.{room}", run) for room, size in enumerate(sizes)]
    sends: list[list[Send]] = [[] for _ in casts]
    for number in range(messages):
        room = chance.randrange(len(casts))
        sends[room].append(_send(chance, casts[room], number, number / rate, run))
    return [
        RoomWorkload(
            owner=cast.active[0],
            members=(*cast.active, cast.leaver, *cast.phones, *cast.idle, *cast.absent),
            leaver=cast.leaver,
            stranger=cast.stranger,
            devices=tuple(_devices(chance, cast)),
            sends=tuple(sends[room]),
            idle=tuple(cast.idle),
            absent=tuple(cast.absent),
        )
        for room, cast in enumerate(casts)
    ]


def _small(chance: random.Random, room: int) -> Size:
    phones = int(not room % _PHONE_EACH)
    return Size(with_devices=chance.randint(*MEMBERS), phones=phones, absent=1, second=_SECOND_IN_SMALL)


def _cast(chance: random.Random, users: Sequence[str], size: Size, prefix: str, run: str) -> _Cast:
    *active, leaver = chance.sample(users, min(size.with_devices, len(users)))
    return _Cast(
        active=active,
        leaver=leaver,
        stranger=f"{run}.stranger",
        phones=[f"{prefix}.phone{n}" for n in range(size.phones)],
        idle=[f"{run}.idle{n}" for n in range(_IDLE if size.absent > 1 else 0)],
        absent=[f"{run}.absent{n:02}" for n in range(size.absent)],
        second=size.second,
    )


def _send(chance: random.Random, cast: _Cast, number: int, at: float, run: str) -> Send:
    mode = chance.choices(list(_MODES), weights=list(_MODES.values()))[0]
    sender = cast.stranger if mode is SendMode.STRANGER else chance.choice(cast.active)  # all others only listen
    words = " ".join(chance.choices(_WORDS, k=chance.randint(1, 40)))
    return Send(at=at, sender=sender, key=f"{run}-{number}", content=f"{run} {number} {words}", mode=mode)


def _devices(chance: random.Random, cast: _Cast) -> Iterator[DeviceSpec]:
    """Yield a steady device for each active member, another one of a harder kind for some, and the phones."""
    for user in cast.active:
        yield DeviceSpec(user=user, device="desk", kind=DeviceKind.STEADY, insistent=_half(chance))
        if chance.random() < cast.second:
            yield DeviceSpec(user=user, device="pocket", kind=chance.choice(_SECOND), insistent=_half(chance))
    for user in cast.phones:
        yield DeviceSpec(user=user, device="phone", kind=DeviceKind.PHONE, insistent=_half(chance))


def _half(chance: random.Random) -> bool:
    return chance.random() < 0.5
