"""``millrace recover``: put back what the log holds and a store that went back in time lacks."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cli.actions import recorded
from cli.command import AsJson, Data, find_target, print_result, run
from cli.recovery import Outcome, Survey, report, survey
from cli.recovery import recover as put_back
from cli.target import Server, Target
from stack.errors import OperatorError

_SHOWN = 20


def recover(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come back.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Put back what Kafka holds and PostgreSQL lacks, after PostgreSQL was restored or a replica took over.

    The relay publishes nothing until then. It needs the database's owner, PostgreSQL and Kafka; the other processes may
    run or not. Running it twice changes nothing more.

    Example: millrace recover --dry-run
    """
    target = find_target(data, Server.POSTGRES, Server.KAFKA)
    found, outcome = run(_recover(target, dry_run=True))
    if dry_run:
        _print(found, outcome, dry_run=True, as_json=as_json)
        return
    if not yes and found.span is not None:
        question = _text(found, outcome, dry_run=True)
        if not sys.stdin.isatty():
            raise OperatorError(f"{question}\nadd --yes to do it")
        typer.confirm(f"{question}\nGo on?", abort=True, err=True)
    found, outcome = run(_recorded(target))
    _print(found, outcome, dry_run=False, as_json=as_json)


async def _recorded(target: Target) -> tuple[Survey, Outcome]:
    async with recorded(target.owner_dsn, "recover", {}) as result:
        found, outcome = await _recover(target, dry_run=False)
        numbers = report(found, outcome)
        del numbers["byConversation"]
        result.update(numbers)
        return found, outcome


async def _recover(target: Target, *, dry_run: bool) -> tuple[Survey, Outcome]:
    from adapters.kafka.log_position import open_positions
    from adapters.kafka.reader import open_reader
    from adapters.postgres.recovery import open_recovery
    from schemas.topics import load

    async with (
        open_recovery(target.owner_dsn) as store,
        open_reader(target.kafka, client_id="millrace-recover") as reader,
        open_positions(target.kafka, load(), "relay") as positions,
    ):
        await store.begin()
        found = await survey(store, reader, await positions.read())
        return found, await put_back(store, found, dry_run=dry_run)


def _print(found: Survey, outcome: Outcome, *, dry_run: bool, as_json: bool) -> None:
    result: dict[str, Any] = {"dryRun": dry_run, **report(found, outcome)}
    print_result(result, _text(found, outcome, dry_run=dry_run), as_json=as_json)


def _text(found: Survey, outcome: Outcome, *, dry_run: bool) -> str:
    facts, total = report(found, outcome), outcome.total
    if found.span is None:
        return "the store has everything that the log holds" + _trimmed(found)
    lines = [
        f"the store lacks events of {facts['first']} to {facts['last']} that the log holds",
        f"{'would come' if dry_run else 'came'} back: {total.messages} messages, {total.members} changes of members,"
        f" {total.media} of files, {total.created} conversations, {outcome.uploads} uploads; in"
        f" {len(outcome.by_conversation)} conversations",
        f"{total.moved} of them under another seq; {total.resent} messages were sent again by their senders",
        f"gone: {total.lost} entries that are in no log, and {total.gone} events of conversations that are in none;"
        f" and what was accepted last and never published{_trimmed(found)}",
    ]
    hurt = [id_ for id_, each in outcome.by_conversation.items() if each.lost or each.gone or each.moved]
    lines += [_line(id_, outcome) for id_ in hurt[:_SHOWN]]
    if len(hurt) > _SHOWN:
        lines.append(f"  and {len(hurt) - _SHOWN} more conversations: --json lists them")
    return "\n".join(lines)


def _line(conversation_id: str, outcome: Outcome) -> str:
    each = outcome.by_conversation[conversation_id]
    return f"  {conversation_id}: {each.messages} messages, {each.moved} moved, {each.lost + each.gone} gone"


def _trimmed(found: Survey) -> str:
    if not found.trimmed:
        return ""
    return f"; and {found.trimmed} records that Kafka has deleted by age before they were read"
