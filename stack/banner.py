"""What ``millrace up`` says once everything is ready."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stack.child import Child
from stack.composition import Given
from stack.servers.data_dir import Folder
from stack.tokens import Signer, signs_its_own


def show_ready(urls: dict[str, str], children: Sequence[Child], given: Sequence[Given], seconds: float) -> None:
    """What runs where."""
    out = Console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("what", "where", "log"):
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


def show_next(folder: Folder) -> None:
    """Two tokens, if they are ours to give, and what to try."""
    out, signer = Console(), Signer.of(folder.secret("jwt"), os.environ)
    if signs_its_own(os.environ):
        out.print("\ntwo tokens, valid for a day:", highlight=False)
        for user in ("alice", "bob"):
            print(f"  {user:6}{signer.token(user, ttl_s=86_400)}")
    command = _short(str(Path(sys.executable).with_name("millrace")))
    extra = "" if folder.path.name == ".millrace" else f" --data {_short(str(folder.path))}"
    out.print("\ntry next, in a second terminal:", highlight=False)
    print(f'  eval "$({command} env --clients{extra})"    # API, WS, ALICE and BOB, for the commands of the README')
    for line in ("demo", "listen bob", "send alice --to bob hello", "status", "topics list", "agents list"):
        print(f"  {command} {line}{extra}")
