"""The target of faults: the processes and servers of a running stack, and the fault proxies before them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from adapters.auth import issue
from runtime.kafka_settings import Kafka
from stack.running import STATE, RunningStack
from stack.servers.data_dir import DataDir
from stack.topology import LINKED
from verify.attacks.doors import Doors
from verify.fault_proxy import FaultProxy
from verify.history import History

_NUMBER = re.compile(r"-\d+$")
_TTL_S = 86_400


class NotPossible(Exception):
    """The fault cannot be injected here; the text says what it would need."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process as the supervisor wrote it down last. ``pid`` is None while it is down."""

    name: str
    pid: int | None
    port: int | None
    ops_port: int | None

    @property
    def role(self) -> str:
        """The name without its number: ``gateway-2`` is a ``gateway``."""
        return role_of(self.name)


def role_of(name: str) -> str:
    """Return the name without its number: ``kafka-3`` is a ``kafka``."""
    return _NUMBER.sub("", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A stack under test. ``proxies`` are keyed by the name of the server behind them; ``clocks`` is the folder of
    ``verify.fake_clock``. ``history`` is what the clients of the run have seen so far; ``doors``
    are where a hostile client comes in. ``supervisor`` is the process id of the one that runs the stack. All choices
    are made with ``rng``."""

    data: Path
    kafka: Kafka
    pg_dsn: str = field(repr=False)
    redis_url: str = field(repr=False)
    rng: random.Random
    proxies: Mapping[str, FaultProxy] = field(default_factory=dict)
    clocks: Path | None = None
    history: History | None = None
    doors: Doors | None = None
    supervisor: int | None = None

    def processes(self) -> list[Process]:
        """Return all processes of the stack, as they are now."""
        found = DataDir(self.data).read(STATE).get("processes", [])
        return [Process(p["name"], p["pid"], p["port"], p["opsPort"]) for p in found]

    def living(self, name_or_role: str) -> list[tuple[str, int]]:
        """Return name and process id of the running processes of a name or a role."""
        return [
            (process.name, process.pid)
            for process in self.processes()
            if name_or_role in (process.name, process.role) and process.pid is not None
        ]

    def pid_of(self, name: str) -> int | None:
        """Return the process id of a process; None while it is down."""
        return next((process.pid for process in self.processes() if process.name == name), None)

    def choose(self, name_or_role: str) -> tuple[str, int]:
        """Return name and process id of one of them. Raises NotPossible when none runs."""
        living = self.living(name_or_role)
        if not living:
            raise NotPossible(f"no process {name_or_role} of ours runs")
        return self.rng.choice(living)

    def edge(self, name_or_role: str) -> list[FaultProxy]:
        """Return the proxy before a server of this name or role, and those of links to it alone.

        Raises NotPossible when there is none.
        """
        names = [name for name in sorted(self.proxies) if name_or_role in (name, role_of(name))]
        if not names:
            raise NotPossible(f"no fault proxy stands before {name_or_role}")
        chosen = self.rng.choice(names)
        links = (f"{kind}-{chosen}" for kind in LINKED)
        return [self.proxies[name] for name in (chosen, *links) if name in self.proxies]

    def edges(self, role: str) -> list[FaultProxy]:
        """Return the proxies before all servers of this role. Raises NotPossible when there is none."""
        names = [name for name in sorted(self.proxies) if role_of(name) == role]
        if not names:
            raise NotPossible(f"no fault proxy stands before {role}")
        return [self.proxies[name] for name in names]


def target_of(
    stack: RunningStack,
    rng: random.Random,
    proxies: Mapping[str, FaultProxy] | None = None,
    clocks: Path | None = None,
    history: History | None = None,
) -> Target:
    """Return the target for a running stack, on which the clients of ``history`` talk."""
    return Target(
        data=stack.data,
        kafka=stack.kafka,
        pg_dsn=stack.pg_dsn,
        redis_url=stack.redis_url,
        rng=rng,
        proxies=proxies or {},
        clocks=clocks,
        history=history,
        doors=Doors(stack.http_url, stack.ws_url, partial(issue, stack.jwt_secret, ttl_s=_TTL_S)),
        supervisor=stack.supervisor,
    )
