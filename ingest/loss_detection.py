"""Detection of a log that has lost records: the relay publishes only to the log that took all that was published.

It compares partition counts too. Producers keep to the declared count, so that a count that somebody raised moves no
conversation; still that is an error of the broker's operator, and reported.

A broker may come back empty, or with less than it acknowledged. What it lost is owed again before anything newer is
published, so that in the new log, too, the first occurrences of a conversation's events are in seq order.

Reading the position of the log costs a round trip to the broker, so it is not read for each batch. Instead each batch
relies on a proof of the recent past: a broker cannot end, lose its data, start and get its topics again within
``RESTART_S``. So an acknowledgement or a comparison proves that the log is the known one for that long; after that it
is compared again, before anything is published and before anything that was acknowledged is marked.

    publish:  ensure_intact ─ append ─ still_intact ─ … ─ mark
                   │                        │
                   └─ proof too old: compare with the noted position; a loss owes all retained rows again
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from domain.errors import Unavailable
from domain.log_position import Position, Positions, loss
from domain.outbox import Loss, Outbox

_log = structlog.get_logger()

RESTART_S = 2.0
"""Seconds for which a proof holds: shorter than the shortest restart of a broker that loses its data."""
IDLE_S = 1.0
"""Age of a proof at which an idle relay compares, so that it finds a loss while nothing is published."""
COMPARE_EVERY_S = 5.0
"""Age of a comparison at which the log is compared again, whatever acknowledgements prove: a broker that lost a part of
its records acknowledges new ones all the same."""
CONFIRM_S = 3.0
"""Seconds before a loss is believed: after a change of leaders an end may for a moment lie behind the noted one."""


def _now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class LossDetector:
    """Compares the log with its noted position, as seldom as is safe.

    ``on_loss`` is called with each loss that this relay finds; ``on_partitions`` with the topics that have another
    number of partitions than ``partitions`` declares, and that number, whenever these change.
    """

    positions: Positions
    on_loss: Callable[[Loss], None] = lambda _: None
    clock: Callable[[], float] = _now
    confirm_s: float = CONFIRM_S
    partitions: Mapping[str, int] = field(default_factory=dict)
    on_partitions: Callable[[Mapping[str, int]], None] = lambda _: None
    _proved_at: float = field(default=-math.inf)
    _compared_at: float = field(default=-math.inf)
    _differing: Mapping[str, int] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """Return a sentence for each topic whose number of partitions is not the declared one."""
        return [
            f"{topic} has {found} partitions, {self.partitions[topic]} are declared"
            for topic, found in sorted(self._differing.items())
        ]

    def reset(self) -> None:
        """Forget all proofs, since the store or the broker was away."""
        self._proved_at = self._compared_at = -math.inf

    def must_compare(self, within_s: float = RESTART_S) -> bool:
        """Return True when no proof is younger than ``within_s``: then the log is compared.

        What the log has acknowledged must be marked before, so that the noted position has its ends: else records that
        were lost since might never be missed.
        """
        now = self.clock()
        return now - self._proved_at > within_s or now - self._compared_at > COMPARE_EVERY_S

    async def ensure_intact(self, outbox: Outbox, within_s: float = RESTART_S) -> bool:
        """Return True when the log is intact; False when it was not, and its lost records are owed again.

        False, too, at the first comparison after another relay has found the loss: what was published here before
        may be lost with it.

        A proof that is not older than ``within_s`` suffices. Raises Unavailable when the position cannot be read: then
        nothing may be published.
        """
        return await self._compare(outbox) if self.must_compare(within_s) else True

    async def still_intact(self, outbox: Outbox) -> bool:
        """Return True when the log that has just acknowledged is the known one; False when it has lost records,
        whichever relay has found that.

        The append may have waited for a broker for longer than ``RESTART_S``. Then its acknowledgement proves nothing:
        it may be that of a broker that came back empty.
        """
        if self.must_compare():
            return await self._compare(outbox)
        self._proved_at = self.clock()
        return True

    async def _compare(self, outbox: Outbox) -> bool:
        now = self.clock()  # before the reading: the proof is as old as the question, not as the answer
        current = await self.positions.read()
        lost = await outbox.compare(current, self._read_again)
        _log.debug("log_compared", cluster_id=current.cluster_id, partitions=len(current.ends), intact=lost is None)
        self._compare_partitions(current)
        if lost is not None and lost.known:
            _log.info("log_loss_known", cluster_id=current.cluster_id, reason=lost.what)
        elif lost is not None:
            _log.error("log_lost_records", cluster_id=current.cluster_id, reason=lost.what, rows_owed_again=lost.rows)
            self.on_loss(lost)
        if current.missing:
            await self._restore(outbox, current.missing)
        self._proved_at = self._compared_at = now
        return lost is None

    def _compare_partitions(self, current: Position) -> None:
        """Report topics with another number of partitions than declared, once for each change."""
        differing = {
            topic: found for topic, found in current.partitions.items() if self.partitions.get(topic, found) != found
        }
        if differing == self._differing:
            return
        for topic, found in differing.items():
            _log.error(
                "partitions_differ",
                topic=topic,
                partitions=found,
                declared=self.partitions[topic],
                reason="somebody changed the number; records stay on the declared partitions",
            )
        self._differing = differing
        self.on_partitions(differing)

    async def _read_again(self, noted: Position) -> Position:
        """Return the position once more, for ``compare``.

        Called while no other relay can note a position. The first reading may be older than what another relay has
        noted meanwhile, which looks like a loss and is none. A loss that remains must also outlast ``confirm_s``.
        """
        current = await self.positions.read()
        if loss(noted, current) is not None:
            await asyncio.sleep(self.confirm_s)
            current = await self.positions.read()
        return current

    async def _restore(self, outbox: Outbox, missing: tuple[str, ...]) -> None:
        """Create topics again that existed before. Those of a new broker are for its operator to create."""
        replication = await outbox.noted_replication()
        if replication is None:
            raise Unavailable(f"the broker has no topic {missing[0]} yet; run `millrace topics apply`")
        _log.error("topics_missing", topics=list(missing), reason="the broker lost them; they are created again")
        await self.positions.restore(replication)
