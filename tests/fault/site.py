"""Several nodes, and the fronts of ``deploy/`` before them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stack.servers.haproxy import Backend
from tests.fault.processes import Extra
from tests.fronts import Front


@dataclass
class Site:
    """Three gateways and two ingests of one stack."""

    folder: Path
    nodes: list[Extra]
    fronts: list[Front] = field(default_factory=list)

    @property
    def gateways(self) -> list[Extra]:
        return [node for node in self.nodes if node.name == "gateway"]

    @property
    def ingests(self) -> list[Extra]:
        return [node for node in self.nodes if node.name == "ingest"]

    async def front(self, kind: str, **more: Any) -> Front:
        """One more front before them all, which serves when this returns."""
        folder = self.folder / f"front-{len(self.fronts)}"
        folder.mkdir()
        made = Front(kind, folder, _behind(self.ingests), _behind(self.gateways), **more)
        self.fronts.append(made)
        await made.start()
        return made

    async def sockets(self) -> dict[str, int]:
        """How many each gateway that lives has."""
        living = [node for node in self.gateways if node.alive]
        counts = await asyncio.gather(*(node.metric("millrace_connections") for node in living))
        return {node.node: int(count) for node, count in zip(living, counts, strict=True)}

    async def busiest(self) -> Extra:
        """The gateway with the most sockets."""
        counts = await self.sockets()
        name = max(counts, key=lambda name: counts[name])
        return next(node for node in self.gateways if node.node == name)


def _behind(nodes: list[Extra]) -> list[Backend]:
    return [Backend(f"{node.name}-{number}", node.port, node.ops_port) for number, node in enumerate(nodes, 1)]
