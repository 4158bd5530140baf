"""The faults of a trial: from the names that a user gives to a schedule, and the faults that cannot be made here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runtime.terminal import print_table
from stack.errors import OperatorError
from stack.servers.haproxy import find_haproxy
from stack.topology import Topology, cluster, role, single
from verify import fake_clock
from verify.faults import FAULTS, kind_of
from verify.faults.clock import NEEDED as A_CLOCK
from verify.faults.disk import MOUNTS
from verify.faults.network import EDGE
from verify.given_servers import hits
from verify.schedule import LEAST_S, Planned, arrange, draw

RANDOM, NONE = "random", "none"
_SHORTEST_S = 10.0


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of a trial, and how long its load lasts, in seconds. ``left_out``: reason → kinds of faults that are
    not drawn for it."""

    plan: Sequence[Planned] = ()
    seconds: float = _SHORTEST_S
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def need_mounts(self) -> bool:
        """Some fault of the schedule mounts a disk, and may do so."""
        return can_mount() and any(FAULTS[planned.fault]().needs == MOUNTS for planned in self.plan)


def plan_faults(names: str, seed: int, seconds: float, *, is_cluster: bool, given: Collection[str] = ()) -> Faults:
    """Return the faults for the names that a user gave, for a load that lasts so long, or longer where they need it.

    ``given``: roles of servers that are not the trial's own, and which no fault may break. Raises OperatorError.
    """
    seconds = max(seconds, _SHORTEST_S)
    if names == NONE:
        return Faults(seconds=seconds)
    if names == RANDOM:
        reasons = left_out(is_cluster=is_cluster, given=given)
        seconds = max(seconds, LEAST_S)
        return Faults(draw(seed, seconds, FAULTS.keys() - reasons.keys()), seconds, _by_reason(reasons))
    try:
        plan, seconds = arrange(seed, [name.strip() for name in names.split(",")], seconds)
    except KeyError as exc:
        raise OperatorError(f"there is no fault {exc}; `millrace verify --faults list` shows what there is") from exc
    for planned in plan:
        if server := hits(FAULTS[planned.fault](), given):
            raise OperatorError(f"{planned.fault} must be left out: {_not_ours(server)}")
    return Faults(plan, seconds)


def left_out(*, is_cluster: bool, given: Collection[str] = ()) -> dict[str, str]:
    """Return the faults that are not drawn here, each with the reason."""
    topology = cluster(is_proxied=find_haproxy() is not None) if is_cluster else single()
    there = set(_there(topology))
    found = {}
    for name, make in FAULTS.items():
        form = make()
        needed = form.needs
        if server := hits(form, given):
            found[name] = _not_ours(server)
        elif needed and needed not in there:
            found[name] = _REASONS.get(needed) or f"{_kind(topology)} has no {needed.removeprefix(EDGE)} of its own"
    return found


def _not_ours(server: str) -> str:
    return f"{server} is given, and a trial breaks nothing that is not its own"


_REASONS = {
    A_CLOCK: "libfaketime is not installed (pip install libfaketime, or apt-get install faketime)",
    MOUNTS: "only root may mount a small disk, by unshare and nsenter of util-linux",
    "haproxy": "HAProxy stands before a cluster only, where it is installed",
}


def _kind(topology: Topology) -> str:
    return "a cluster" if topology.is_cluster else "a stack of single servers"


def _there(topology: Topology) -> Iterator[str]:
    """Yield what faults may need and is there."""
    yield from map(role, (*topology.apps, *topology.brokers, *topology.caches, "postgres"))
    yield from (["postgres-replica"] if topology.is_replicated else [])
    yield from (["haproxy"] if topology.is_proxied else [])
    yield from (f"{EDGE}{role(name)}" for name in ("http", "ws", *topology.edges))
    yield from ([A_CLOCK] if fake_clock.library() else [])
    yield from ([MOUNTS] if can_mount() else [])


def can_mount() -> bool:
    """Return whether the stack can be given mounts of its own."""
    return os.geteuid() == 0 and all(map(shutil.which, ("unshare", "nsenter", "mount", "umount")))


def _by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the reasons, each with the names of the faults, or of their kind where no fault of it is drawn."""
    drawn = {kind_of(name) for name in FAULTS.keys() - reasons.keys()}
    found: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        shown = name if kind_of(name) in drawn else kind_of(name)
        if shown not in found.setdefault(reason, []):
            found[reason].append(shown)
    return found


def list_faults() -> None:
    """Print the faults, each with what it does and, where it is not drawn on either kind of stack, the reason."""
    single_servers, of_cluster = (left_out(is_cluster=is_cluster) for is_cluster in (False, True))
    rows = [
        (name, make().summary, _remark(single_servers.get(name), of_cluster.get(name))) for name, make in FAULTS.items()
    ]
    print_table(("fault", "what it does", "drawn at random"), rows)


def _remark(single_servers: str | None, of_cluster: str | None) -> str:
    if single_servers and of_cluster:
        return f"no: {of_cluster}"
    if single_servers or of_cluster:
        return "on a cluster only" if single_servers else "on single servers only"
    return "yes"
