"""Print what ``millrace up`` has started, and what to try next."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stack.child import Child
from stack.composition import GivenServer
from stack.servers.data_dir import DataDir
from stack.tokens import Signer, signs_its_own
from stack.topology import module_of


def show_ready(urls: dict[str, str], children: Sequence[Child], given: Sequence[GivenServer], seconds: float) -> None:
    """Print the URLs, and a table of servers and processes."""
    out = Console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("process", "address", "log"):
        table.add_column(column, overflow="fold")
    for server in given:
        table.add_row(server.name, f"{server.host}:{server.port}", "given by URL")
    for child in children:
        table.add_row(child.name, f"127.0.0.1:{child.port}" if child.port else "", _short(str(child.log)))
    out.print()
    for name, url in urls.items():
        out.print(f"{name:6}{url}", highlight=False)
    out.print()
    out.print(table)
    out.print(f"\nready after {seconds:.1f} s. Ctrl-C ends everything; the data stays.", highlight=False)


def _short(path: str) -> str:
    here = f"{Path.cwd()}{os.sep}"
    return path.removeprefix(here)


def show_left_out(folder: DataDir, names: Sequence[str]) -> None:
    """Print a command for each process that was left out; it starts the process in its place."""
    if not names:
        return
    print("\nleft out; to start one by hand:")
    for name in names:
        start = f"exec {_program('python')} -m {' '.join(module_of(name))}"
        print(f'  (eval "$({_program("millrace")} env {name}{_data_option(folder)})"; {start})')


def _program(name: str) -> str:
    return _short(str(Path(sys.executable).with_name(name)))


def _data_option(folder: DataDir) -> str:
    return "" if folder.path == Path(".millrace").absolute() else f" --data {_short(str(folder.path))}"


def show_next(folder: DataDir) -> None:
    """Print two tokens, if the stack signs its own, and commands to try."""
    out, signer = Console(), Signer.of(folder.secret("jwt"), os.environ)
    if signs_its_own(os.environ):
        out.print("\ntwo tokens, valid for a day:", highlight=False)
        for user in ("alice", "bob"):
            print(f"  {user:6}{signer.token(user, ttl_s=86_400)}")
    command, extra = _program("millrace"), _data_option(folder)
    out.print("\ntry next, in a second terminal:", highlight=False)
    print(f'  eval "$({command} env --clients{extra})"    # API, WS, ALICE and BOB, for the commands of the README')
    for line in ("demo", "listen bob", "send alice --to bob hello", "status", "topics list", "agents list"):
        print(f"  {command} {line}{extra}")
