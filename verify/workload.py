"""Workloads, generated from a seed: who sends what where and how, and which devices receive. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

ROOMS = 20
MEMBERS = (5, 8)
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


_MODES = {
    SendMode.PLAIN: 73,
    SendMode.RESIGNED: 15,
    SendMode.PARALLEL: 3,
    SendMode.IMPATIENT: 4,
    SendMode.FORGETFUL: 2,
    SendMode.MISMATCH: 2,
    SendMode.STRANGER: 1,
}
_KINDS = (DeviceKind.STEADY, DeviceKind.FLAKY, DeviceKind.SLOW, DeviceKind.DYING, DeviceKind.LATE)


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
    """A device of a member."""

    user: str
    device: str
    kind: DeviceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomWorkload:
    """A conversation. ``leaver`` is removed in the middle and becomes a member again later."""

    owner: str = ""
    members: tuple[str, ...] = ()
    leaver: str = ""
    stranger: str = ""
    devices: tuple[DeviceSpec, ...] = ()
    sends: tuple[Send, ...] = ()


def generate(seed: int, messages: int, rate: float, *, run: str, rooms: int = ROOMS) -> list[RoomWorkload]:
    """Return the workloads of a run. ``rate`` is in messages a second; ``run`` makes user ids and keys unique.

    Every content begins with ``run``, so that a log that holds one is found.
    """
    chance = random.Random(seed)
    users = [f"{run}.u{n:02}" for n in range(2 * rooms)]
    casts = [_cast(chance, users, f"{run}.stranger") for _ in range(rooms)]
    sends: list[list[Send]] = [[] for _ in casts]
    for number in range(messages):
        room = chance.randrange(rooms)
        sends[room].append(_send(chance, casts[room], number, number / rate, run))
    return [
        RoomWorkload(
            owner=cast[0],
            members=tuple(cast[:-1]),
            leaver=cast[-2],
            stranger=cast[-1],
            devices=tuple(_devices(chance, cast[:-2])),
            sends=tuple(sends[room]),
        )
        for room, cast in enumerate(casts)
    ]


def _cast(chance: random.Random, users: Sequence[str], stranger: str) -> list[str]:
    return [*chance.sample(users, chance.randint(*MEMBERS)), stranger]


def _send(chance: random.Random, cast: Sequence[str], number: int, at: float, run: str) -> Send:
    mode = chance.choices(list(_MODES), weights=list(_MODES.values()))[0]
    sender = cast[-1] if mode is SendMode.STRANGER else chance.choice(cast[:-2])  # a leaver only listens
    words = " ".join(chance.choices(_WORDS, k=chance.randint(1, 40)))
    return Send(at=at, sender=sender, key=f"{run}-{number}", content=f"{run} {number} {words}", mode=mode)


def _devices(chance: random.Random, stayers: Sequence[str]) -> Iterator[DeviceSpec]:
    """Yield a steady device for each member who stays; some have another one of a harder kind."""
    for user in stayers:
        yield DeviceSpec(user=user, device="desk", kind=DeviceKind.STEADY)
        if chance.random() < 0.6:
            yield DeviceSpec(user=user, device="pocket", kind=chance.choice(_KINDS[1:]))
