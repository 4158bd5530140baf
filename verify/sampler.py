"""Samples of the store during a run: statuses and watermarks that go back; and secrets in logs at its end."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain.errors import Unavailable
from verify.final_state import (
    DeviceWatermark,
    FinalState,
    LogEntry,
    Store,
    StoredMessage,
    StoredNotification,
    Watermark,
)
from verify.history import History

_EVERY_S = 1.0


@dataclass(slots=True)
class Sampler:
    """Records every status and watermark that is lower than in an earlier sample."""

    store: Store
    history: History
    _statuses: Mapping[str, int] = field(default_factory=dict)
    _marks: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    async def run(self) -> None:
        """Sample once a second, until cancelled; while the store is away nothing is sampled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            with suppress(Unavailable):
                await self.sample()

    async def sample(self) -> None:
        """Take one sample. Raises Unavailable."""
        statuses = await self.store.statuses()
        for message_id, before in self._statuses.items():
            now = statuses.get(message_id)
            if now is None or now < before:
                self.history.regressions.append(f"message {message_id} went from status {before} to {now}")
        self._statuses = statuses
        for conversation, user, *seqs in await self.store.marks():
            key, (delivered, read) = (conversation, user), seqs
            had_delivered, had_read = self._marks.get(key, (0, 0))
            if delivered < had_delivered or read < had_read:
                was = f"{had_delivered}/{had_read}"
                self.history.regressions.append(f"{conversation} {user} went from {was} to {delivered}/{read}")
            self._marks[key] = (delivered, read)


async def read_final_states(store: Store) -> list[FinalState]:
    """Return the final state of each conversation, in the store's order. Raises Unavailable."""
    snapshot = await store.snapshot()
    rows: defaultdict[str, list[StoredMessage]] = defaultdict(list)
    for row in snapshot.rows:
        rows[row[1]].append(StoredMessage(*row))
    entries, marks = _by_conversation(snapshot.entries), _by_conversation(snapshot.marks)
    devices, notifications = _by_conversation(snapshot.devices or ()), _by_conversation(snapshot.notifications)
    return [
        FinalState(
            id_,
            snapshot.heads.get(id_, 0),
            rows[id_],
            [LogEntry(*entry) for entry in entries[id_]],
            [Watermark(*mark) for mark in marks[id_]],
            None if snapshot.devices is None else [DeviceWatermark(*mark) for mark in devices[id_]],
            [StoredNotification(*notification) for notification in notifications[id_]],
        )
        for id_ in store.conversation_ids
    ]


def _by_conversation(rows: Sequence[tuple[Any, ...]]) -> Mapping[str, list[tuple[Any, ...]]]:
    found: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for conversation, *row in rows:
        found[conversation].append(tuple(row))
    return found


def find_leaks(logs: Path, secrets: Sequence[str]) -> list[str]:
    """Return which logs hold which secret, by its number; the secret itself is not repeated."""
    wanted = [secret.encode() for secret in secrets]
    found = []
    for log in sorted(logs.glob("*.log*")):
        content = log.read_bytes()
        found += [f"{log.name} holds secret number {n}" for n, secret in enumerate(wanted) if secret in content]
    return found
