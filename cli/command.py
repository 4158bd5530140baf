"""The rules that all commands share: find servers, print, fail.

Servers come from one place only, the first of these that names any:

1. ``--data DIR``: the stack that runs in this data folder on this machine.
2. The environment: ``MILLRACE_PG__DSN``, ``MILLRACE_KAFKA__BOOTSTRAP``, ``MILLRACE_REDIS__URL``, and for commands that
   act as a client ``MILLRACE_HTTP_URL``, ``MILLRACE_WS_URL`` and ``MILLRACE_AUTH__SECRET``. A command that lacks one of
   those that it needs fails: it never takes the rest from another stack.
3. The stack that runs in ``MILLRACE_DATA_DIR``, or in ``.millrace`` in the current folder.

An address may hold a password, so none is an option: everybody on a machine sees its command lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import typer

from cli.target import ADDRESSES, Server, Target, named_servers, names, resolve, shown_path, stack_here
from domain.errors import MillraceError, Unavailable
from runtime.terminal import is_terminal, print_table, visible_lines
from runtime.variables import is_ours, value_of
from stack.errors import OperatorError
from stack.running import data_dir

if TYPE_CHECKING:
    from stack.servers.data_dir import DataDir

T = TypeVar("T")
Row: TypeAlias = Mapping[str, Any]
Columns: TypeAlias = Mapping[str, str | Callable[[Row], object]]
"""By the heading of a column: the field that it shows, or a function from the row to the cell."""

Data = Annotated[
    Path | None,
    typer.Option("--data", help="Data folder of a stack on this machine; it comes before the environment."),
]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Data folder; default: MILLRACE_DATA_DIR, or .millrace in this folder.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check_environment() -> None:
    """Raise BadSettings for a variable with our prefix that nobody knows: a misspelt one would name another stack."""
    if any(is_ours(name, value) for name, value in os.environ.items()):
        from runtime.environment import refuse_unknown
        from runtime.settings import Settings

        refuse_unknown(os.environ, Settings)


def find_target(data: Path | None, *needs: Server) -> Target:
    """Return the stack to work on, and say on standard error which one it is.

    Raises OperatorError when none is named, when one of the needed servers is missing, or when an address is not valid.
    """
    target = resolve(data, needs)
    print(f"stack: {target}", file=sys.stderr, flush=True)
    return target


def find_broker(data: Path | None, bootstrap: str | None) -> Target:
    """Return a target with Kafka only; ``bootstrap`` names it directly. Raises OperatorError."""
    if bootstrap is None:
        return find_target(data, Server.KAFKA)
    if data is not None:
        raise OperatorError("--data and --bootstrap both name a stack: leave one out")
    target = Target(origin="--bootstrap", addresses={Server.KAFKA: bootstrap})
    print(f"stack: {target}", file=sys.stderr, flush=True)
    return target


def find_folder(data: Path | None) -> DataDir:
    """Return the data folder for a command that is about a stack on this machine: status, logs, down.

    Raises OperatorError when only the current folder suggests one and the environment names another stack.
    """
    folder, named = data_dir(data), named_servers() if data is None and "MILLRACE_DATA_DIR" not in os.environ else {}
    if named.keys() & ADDRESSES and stack_here(named) is None:
        raise OperatorError(
            "this command is about a stack on this machine, and the environment may name another one"
            f" ({names(named)}): choose with --data, such as --data {shown_path(folder.path)}"
        )
    return folder


def refuse_environment(purpose: str, instead: str) -> None:
    """Raise OperatorError when the environment names servers, and the command must not touch any of them."""
    if named := [server for server in Server if server in ADDRESSES and value_of(server.value, os.environ) is not None]:
        raise OperatorError(f"{purpose}: unset {names(named)}, {instead}")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the command's work; return its result. Raises OperatorError when a server does not answer or refuses."""
    try:
        return asyncio.run(work)
    except MillraceError as exc:
        raise OperatorError(explain(exc)) from exc


def explain(exc: MillraceError) -> str:
    """Return one line that says what is wrong and what to do."""
    text = str(exc).removesuffix("; try again")
    if not isinstance(exc, Unavailable):
        return text
    cause = f" ({exc.driver})" if exc.driver else ""
    if text.endswith("does not answer"):
        return f"{text}{cause}; check that it runs, and that its address is right"
    return f"{text}{cause}"


def print_rows(rows: Sequence[Row], columns: Columns, *, as_json: bool, empty: str | None = None) -> None:
    """Print rows as a table, tab-separated in a pipe, or as they are in JSON. ``empty`` stands for a table without rows
    on a terminal; a pipe gets the line of headings."""
    if as_json:
        print(json.dumps(rows))
        return
    if empty is not None and not rows and is_terminal():
        print(empty)
        return
    cells = columns.values()
    print_table(list(columns), [[row[cell] if isinstance(cell, str) else cell(row) for cell in cells] for row in rows])


def print_result(result: Row, text: str, *, as_json: bool) -> None:
    """Print the outcome of a command: the text for people, the result in JSON."""
    print(json.dumps(result) if as_json else visible_lines(text))
