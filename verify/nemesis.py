"""The nemesis: injects faults as scheduled, and notes when each began and was healed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stack.errors import OperatorError
from verify.errors import reason
from verify.faults import Fault, NotPossible, Target, fault
from verify.history import InjectedFault
from verify.schedule import Planned


@dataclass(slots=True)
class Nemesis:
    """Carries out a schedule. ``on_change`` is called with each fault, and with True when the fault is over."""

    target: Target
    plan: Sequence[Planned]
    faults: list[InjectedFault]
    on_change: Callable[[InjectedFault, bool], None] = lambda *_: None
    _active: list[Fault] = field(default_factory=list)

    async def run(self) -> None:
        """Return when the last fault was healed."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for planned in self.plan:
                await asyncio.sleep(max(0.0, began + planned.at_s - time.monotonic()))
                group.create_task(self._strike(planned))

    async def _strike(self, planned: Planned) -> None:
        try:
            await self._carry_out(planned)
        except Exception as exc:  # whatever it meets, the error names the fault
            raise OperatorError(f"the fault {planned.fault} could not be injected: {reason(exc)}") from exc

    async def _carry_out(self, planned: Planned) -> None:
        wanted, began = fault(planned.fault), time.monotonic()
        injected = InjectedFault(
            planned.fault,
            began,
            float("inf"),
            wanted.single_process,
            targets=wanted.targets,
            recover_s=wanted.recover_s,
        )
        self.faults.append(injected)
        self.on_change(injected, False)
        self._active.append(wanted)
        struck = began
        try:
            await wanted.inject(self.target)  # which may wait for its moment
            struck = time.monotonic()
            await asyncio.sleep(planned.lasts_s)
        except NotPossible as exc:
            injected.impossible = str(exc)
        finally:
            self._active.remove(wanted)
            await wanted.heal(self.target)
            injected.evidence = wanted.evidence
            injected.healed = time.monotonic() if planned.lasts_s else struck
            self.on_change(injected, True)

    async def heal(self) -> None:
        """Heal the faults that are active when a run ends early."""
        for wanted in list(self._active):
            await wanted.heal(self.target)
