"""Print what ``millrace up`` has started, and what to try next."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.terminal import print_table
from stack.child import Child
from stack.given import GivenServer
from stack.servers.data_dir import DataDir
from stack.tokens import Signer, signs_its_own
from stack.topology import module_of


def show_ready(urls: dict[str, str], children: Sequence[Child], given: Sequence[GivenServer], seconds: float) -> None:
    """Print the URLs, and a table of servers and processes."""
    rows = [(server.name, server.place, "given by URL") for server in given]
    rows += [
        (child.name, f"127.0.0.1:{child.port}" if child.port else "", _short(str(child.log))) for child in children
    ]
    print()
    for name, url in urls.items():
        print(f"{name:6}{url}")
    print()
    print_table(("process", "address", "log"), rows)
    print(f"\nready after {seconds:.1f} s. Ctrl-C ends everything; the data stays.")


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
    signer = Signer.of(folder.secret("jwt"), os.environ)
    if signs_its_own(os.environ):
        print("\ntwo tokens, valid for a day:")
        for user in ("alice", "bob"):
            print(f"  {user:6}{signer.token(user, ttl_s=86_400)}")
    command, extra = _program("millrace"), _data_option(folder)
    print("\ntry next, in a second terminal:")
    print(f'  eval "$({command} env --clients{extra})"    # API, WS, ALICE and BOB, for the commands of the README')
    for line in ("demo", "listen bob", "send alice --to bob hello", "status", "topics list", "agents list"):
        print(f"  {command} {line}{extra}")
