"""ACLs of a broker with an authorizer. aiokafka has the requests, and no method for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka.errors import SecurityDisabled, for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest

from adapters.kafka.admin import admin
from domain.acls import Acl
from domain.errors import Conflict
from runtime.kafka_settings import Kafka

# Numbers of the protocol (KIP-140, KIP-290).
_ANY = 1
_RESOURCES = {2: "TOPIC", 3: "GROUP", 4: "CLUSTER", 5: "TRANSACTIONAL_ID", 6: "DELEGATION_TOKEN", 7: "USER"}
_PATTERNS = {3: "LITERAL", 4: "PREFIXED"}
_OPERATIONS = dict(
    enumerate(
        (
            *("ALL", "READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE", "CLUSTER_ACTION", "DESCRIBE_CONFIGS"),
            *("ALTER_CONFIGS", "IDEMPOTENT_WRITE", "CREATE_TOKENS", "DESCRIBE_TOKENS", "TWO_PHASE_COMMIT"),
        ),
        2,
    )
)
_PERMISSIONS = {2: "DENY", 3: "ALLOW"}


async def found(kafka: Kafka) -> list[Acl]:
    """Return all ACLs of the broker. Raises Conflict when it has no authorizer, Unavailable, AccessRefused."""
    async with admin(kafka) as client:
        everything = DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY)
        answer = await client._send_request(everything)
        _raise_for(answer.error_code, answer.error_message)
    return [
        Acl(
            principal,
            _RESOURCES.get(kind, str(kind)),
            name,
            _OPERATIONS.get(operation, str(operation)),
            _PATTERNS.get(pattern, str(pattern)),
            _PERMISSIONS.get(permission, str(permission)),
            host,
        )
        for kind, name, pattern, acls in answer.resources
        for principal, host, operation, permission in acls
    ]


async def add(kafka: Kafka, acls: Iterable[Acl]) -> None:
    """Add ACLs. Those that are there already stay. Raises as ``found``."""
    async with admin(kafka) as client:
        for acl in acls:
            answer = await client._send_request(CreateAclsRequest(*_numbers(acl)))
            for code, message in answer.creation_responses:
                _raise_for(code, message)


async def remove(kafka: Kafka, acls: Iterable[Acl]) -> None:
    """Remove ACLs. Raises as ``found``."""
    async with admin(kafka) as client:
        for acl in acls:
            answer = await client._send_request(DeleteAclsRequest(*_numbers(acl)))
            for code, message, _ in answer.filter_responses:
                _raise_for(code, message)


def _numbers(acl: Acl) -> tuple[Any, ...]:
    return (
        _number(_RESOURCES, acl.resource),
        acl.name,
        _number(_PATTERNS, acl.pattern),
        acl.principal,
        acl.host,
        _number(_OPERATIONS, acl.operation),
        _number(_PERMISSIONS, acl.permission),
    )


def _number(words: dict[int, str], word: str) -> int:
    return next(number for number, each in words.items() if each == word)


def _raise_for(code: int, message: str | None) -> None:
    if not code:
        return
    error = for_code(code)
    if error is SecurityDisabled:
        raise Conflict("Kafka has no ACLs: its setting authorizer.class.name must be set")
    raise error(message or "")
