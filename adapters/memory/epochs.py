"""Twin of the epochs of the store."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class StoreEpochs:
    """Epochs by number and id, and where each begins in the conversations that it has changed."""

    ids: dict[str, int] = field(default_factory=lambda: {"1-memory": 1})
    """Id → number: the latest is the present one."""
    starts: dict[tuple[str, int], int] = field(default_factory=dict)
    """(conversation, number) → the seq behind which the epoch begins."""
    appended: dict[str, int] = field(default_factory=dict)
    """Conversation → number of the epoch of its last entry."""

    @property
    def id(self) -> str:
        """The id of the present epoch."""
        return max(self.ids, key=lambda id_: self.ids[id_])

    def begin(self, id_: str) -> None:
        """Begin an epoch, as a server does that was restored or promoted."""
        self.ids[id_] = max(self.ids.values()) + 1

    def append(self, conversation_id: str, head: int) -> None:
        """Note that an entry is appended behind this head."""
        number = self.ids[self.id]
        if self.appended.get(conversation_id, 1) < number:
            self.starts[conversation_id, number] = head
        self.appended[conversation_id] = number

    def shared(self, conversation_id: str, epoch: str, head: int) -> int:
        """Return the last seq up to which a conversation is as it was in that epoch."""
        if epoch not in self.ids:
            return 0
        later = (seq for (id_, n), seq in self.starts.items() if id_ == conversation_id and n > self.ids[epoch])
        return min([head, *later])
