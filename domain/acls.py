"""Rights of each process in Kafka, from topics.yaml: what `millrace topics acls` compares with the broker. Pure.

Roles are the processes, ``operator`` for commands, ``setup`` for what makes and changes topics, and ``data`` for teams
that read what is for them.

Idempotent producers need no right of their own: since Kafka 2.8 whoever may write to a topic may use one. Nothing here
is transactional.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.topics import OUTSIDE, Topic, dead_letter_topic

AUDITED: Final = ("message.created", "message.sent", "notification.sent", "media.processed", "search.indexed")
"""Topics that the audit compares with the store."""
CHECKED: Final = ("message.created", "conversation.changed")
"""Topics whose ends the relay compares with the store."""
RECEIPTS: Final = "receipt.recorded"
DATA_GROUPS: Final = "data-"
"""Beginning of the names of consumer groups of data teams."""
ROLE: Final = "{role}"
_ROLES = {"relay": "ingest", "operators": "operator"}
"""Role of a reader or writer of topics.yaml where it has another name there."""


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """A right, in the words of Kafka: ``pattern`` is LITERAL or PREFIXED, ``permission`` ALLOW or DENY."""

    principal: str
    resource: str
    name: str
    operation: str
    pattern: str = "LITERAL"
    permission: str = "ALLOW"
    host: str = "*"


def declared(topics: Sequence[Topic], principal: str) -> frozenset[Acl]:
    """Return the rights of all roles. ``principal`` is the one of a role, which stands in it as ``{role}``."""
    return frozenset(
        Acl(principal.replace(ROLE, role), *right) for role, rights in _rights(topics).items() for right in rights
    )


def principals(topics: Sequence[Topic], principal: str) -> frozenset[str]:
    """Return the principals of all roles."""
    return frozenset(principal.replace(ROLE, role) for role in _rights(topics))


def differences(wanted: Iterable[Acl], found: Iterable[Acl], ours: frozenset[str]) -> tuple[list[Acl], list[Acl]]:
    """Return the rights that are missing, and those of our principals that are not declared."""
    wanted, found = set(wanted), set(found)
    return sorted(wanted - found), sorted(acl for acl in found - wanted if acl.principal in ours)


def _rights(topics: Sequence[Topic]) -> Mapping[str, list[tuple[str, ...]]]:
    rights: dict[str, list[tuple[str, ...]]] = {}

    def allow(role: str, resource: str, names: Iterable[str], *operations: str, pattern: str = "LITERAL") -> None:
        mine = rights.setdefault(_ROLES.get(role, role), [])
        mine += [(resource, name, operation, pattern) for name in names for operation in operations]

    names = [topic.name for topic in topics]
    for topic in topics:
        for writer in topic.writers:
            allow(writer, "TOPIC", [topic.name], "WRITE")
        for reader in topic.readers:
            allow(reader, "TOPIC", [topic.name], "READ")
    groups = _groups(topics)
    stages = [group for group in groups if dead_letter_topic(group) in names]
    for group in groups:
        allow(group, "GROUP", [group], "READ")
    allow("data", "GROUP", [DATA_GROUPS], "READ", pattern="PREFIXED")
    # It looks at the ends of all topics, creates again those that a broker has lost, and notices a store that lacks
    # what the log holds.
    allow("ingest", "TOPIC", names, "DESCRIBE", "CREATE")
    allow("ingest", "TOPIC", CHECKED, "READ")
    # It waits for receipts that the status stage has not processed yet.
    allow("notification", "TOPIC", [RECEIPTS], "DESCRIBE")
    allow("notification", "GROUP", ["status"], "DESCRIBE")
    allow("audit", "TOPIC", [*AUDITED, *map(dead_letter_topic, stages)], "READ")
    allow("audit", "GROUP", stages, "DESCRIBE")
    allow("operator", "TOPIC", names, "DESCRIBE", "DESCRIBE_CONFIGS", "READ")
    allow("operator", "GROUP", groups, "DESCRIBE")
    allow("setup", "TOPIC", names, "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS")
    return rights


def _groups(topics: Sequence[Topic]) -> list[str]:
    return list(dict.fromkeys(_readers(topics)))


def _readers(topics: Sequence[Topic]) -> Iterator[str]:
    return (reader for topic in topics for reader in topic.readers if reader not in OUTSIDE)
