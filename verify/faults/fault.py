"""The form of a fault."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from verify.faults.target import Target


@dataclass(slots=True, kw_only=True)
class Fault(ABC):
    """A fault. An object is used once: ``inject``, some time, ``heal``.

    ``targets`` are the roles that it breaks; two faults never break one role at the same time. ``lasts_s``: seconds
    until it is healed, unless a schedule says otherwise; 0 when it heals on its own. ``recover_s``: seconds after
    ``heal`` within which the role is as before. ``single_process``: it hits one process only, and once, so that the
    bounds of ``verify.edges`` apply. ``needs`` names what the stack must have: a kind of process, an edge with a proxy,
    or something of the machine; empty when every stack has it.
    """

    name: str = field(init=False)
    summary: str = field(init=False)
    """Sentence for people, without a full stop."""
    targets: tuple[str, ...] = ()
    lasts_s: float = 0.0
    recover_s: float = 15.0
    single_process: bool = False
    needs: str = ""
    at_end: bool = False
    evidence: str = field(default="", init=False)
    """How it is known that the fault took effect; empty while that is not known. Complete after ``heal``."""

    @abstractmethod
    async def inject(self, target: Target) -> None:
        """Inject the fault. Raises NotPossible."""

    async def heal(self, target: Target) -> None:  # noqa: B027 - most faults heal by themselves
        """Undo the fault. Safe after an ``inject`` that failed."""


def kind_of(name: str) -> str:
    """Return the kind of a fault: the first word of its name, with the last one where that is about time."""
    words = name.split("-")
    return "-".join((words[0], *({words[-1]} & _OF_TIME)))


_OF_TIME = frozenset({"again", "long", "end", "effect", "append", "unflushed"})
