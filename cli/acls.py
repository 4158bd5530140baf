"""``millrace topics acls``: the rights of each process in Kafka, from the readers and writers of topics.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.command import AsJson, Columns, Data, find_broker, print_result, print_rows, run
from cli.topics import Bootstrap
from schemas.topics import load
from stack.errors import OperatorError

if TYPE_CHECKING:
    from domain.acls import Acl
    from runtime.kafka_settings import Kafka

app = typer.Typer(help="Compare the ACLs of Kafka with topics.yaml, and add what is missing.", no_args_is_help=True)

Principal = Annotated[
    str,
    typer.Option(
        metavar="TEMPLATE",
        help="Principal of a role, for {role}: User:CN={role}.millrace; without {role} all share one.",
    ),
]
_DEFAULT = "User:millrace-{role}"


@app.command()
def plan(
    principal: Principal = _DEFAULT, data: Data = None, bootstrap: Bootstrap = None, as_json: AsJson = False
) -> None:
    """Show the rights that are missing, and those that nobody needs. Exit code 2 when there are any.

    It needs the right to describe the cluster.
    """
    missing, extra = run(_compared(find_broker(data, bootstrap).kafka, principal))
    columns: Columns = {
        "principal": "principal",
        "operation": lambda row: f"{'deny ' if row['permission'] == 'DENY' else ''}{row['operation']}",
        "resource": lambda row: f"{row['resource'].lower()} {row['name']}{'*' if row['pattern'] == 'PREFIXED' else ''}",
        "change": "change",
    }
    rows = [_row(acl, "add") for acl in missing] + [_row(acl, "remove, with --remove") for acl in extra]
    print_rows(rows, columns, as_json=as_json, empty="nothing to do: the ACLs are as topics.yaml needs them")
    if rows:
        raise typer.Exit(2)


@app.command()
def apply(
    principal: Principal = _DEFAULT,
    remove: Annotated[bool, typer.Option("--remove", help="Remove rights of these principals that are not needed.")] = (
        False
    ),
    data: Data = None,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Add the rights that are missing; those of other principals stay. It needs the right to alter the cluster."""
    added, removed = run(_applied(find_broker(data, bootstrap).kafka, principal, remove=remove))
    done = [f"added {_shown(acl)}" for acl in added] + [f"removed {_shown(acl)}" for acl in removed]
    text = "\n".join(done) if done else "nothing to do: the ACLs are as topics.yaml needs them"
    print_result(
        {"added": [_row(acl) for acl in added], "removed": [_row(acl) for acl in removed]}, text, as_json=as_json
    )


async def _compared(kafka: Kafka, principal: str) -> tuple[list[Acl], list[Acl]]:
    from adapters.kafka.acls import found
    from domain.acls import declared, differences, principals

    if not principal.partition(":")[2]:
        raise OperatorError("--principal must be of the form User:NAME")
    topics = load()
    return differences(declared(topics, principal), await found(kafka), principals(topics, principal))


async def _applied(kafka: Kafka, principal: str, *, remove: bool) -> tuple[list[Acl], list[Acl]]:
    from adapters.kafka import acls

    missing, extra = await _compared(kafka, principal)
    await acls.add(kafka, missing)
    if not remove:
        return missing, []
    await acls.remove(kafka, extra)
    return missing, extra


def _row(acl: Acl, change: str | None = None) -> dict[str, Any]:
    row = {
        "principal": acl.principal,
        "operation": acl.operation,
        "resource": acl.resource,
        "name": acl.name,
        "pattern": acl.pattern,
        "permission": acl.permission,
        "host": acl.host,
    }
    return row if change is None else {**row, "change": change}


def _shown(acl: Acl) -> str:
    return f"{acl.principal}: {acl.operation} on {acl.resource.lower()} {acl.name}"
