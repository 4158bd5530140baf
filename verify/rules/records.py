"""Rules about the records of ``message.created`` (I6, and I12 between rows and the topic)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from verify.final_state import FinalState
from verify.rules.violation import Violation


@dataclass(frozen=True, slots=True)
class CreatedRecord:
    """A record of a conversation, as it lies in the topic. ``digest`` is of its message's content."""

    partition: int
    seq: int
    digest: bytes


def records_are_the_rows(records: Sequence[CreatedRecord], state: FinalState) -> Iterator[Violation]:
    """Compare all records of a conversation, in the topic's order, with its rows. A repeat of a record is allowed:
    readers drop it."""
    where = state.conversation_id
    partitions = {record.partition for record in records}
    if len(partitions) > 1:
        yield Violation("I6", "reordered", f"{where} lies in partitions {sorted(partitions)}")
    order = list(dict.fromkeys(record.seq for record in records))
    rows = [row.seq for row in state.rows]
    if order != rows:
        yield Violation("I6", "lost", f"{where}: rows {rows}, in the topic {order}")
    digests = {record.seq: record.digest for record in records}
    for row in state.rows:
        if digests.get(row.seq, row.digest) != row.digest:
            yield Violation("I12", "wrong", f"{where} seq {row.seq}: the record holds other content")
