"""The fronts of ``deploy/``, run as an operator runs them: the real servers, with these very files."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stack.child import end_with_parent
from stack.ports import allot
from stack.probes import answers
from stack.processes import family, lives
from stack.servers.data_dir import DataDir
from stack.servers.haproxy import Backend, HAProxy, find_haproxy
from verify.faults.process import send

DEPLOY = Path(__file__).parents[1] / "deploy"
FILES = {"haproxy": DEPLOY / "haproxy.cfg", "nginx": DEPLOY / "nginx.conf"}
KINDS = tuple(FILES)


def find(kind: str) -> str | None:
    """Where the server is, if it is installed."""
    return find_haproxy() if kind == "haproxy" else shutil.which(kind) or shutil.which(kind, path="/usr/sbin")


def needed(kind: str) -> str:
    """Where the server is; without it the test is skipped."""
    found = find(kind)
    if found is None:
        pytest.skip(f"{kind} is not installed (apt-get install {kind})")
    return found


def changed(text: str, changes: Mapping[str, str]) -> str:
    """The text with what is to be other in it; each must be in it exactly once."""
    for before, after in changes.items():
        assert text.count(before) == 1, f"{before!r} is there {text.count(before)} times"
        text = text.replace(before, after)
    return text


@dataclass
class Front:
    """One HAProxy or NGINX before these nodes, with one port for everything. ``changes`` are made in its file."""

    kind: str
    folder: Path
    ingests: Sequence[Backend]
    gateways: Sequence[Backend]
    changes: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    other_port: int = 0
    ops_port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def log(self) -> str:
        return (self.folder / f"{self.kind}.log").read_text(errors="replace")

    @property
    def lines(self) -> list[str]:
        """What it noted of requests."""
        return [line for line in self.log.splitlines() if re.search(r"(GET|POST|PATCH|<BADREQ>)", line)]

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Write its file; how to run it."""
        program = needed(self.kind)
        if not self.port:
            ports = allot(["port", "other", "ops"], {}, {})
            self.port, self.other_port, self.ops_port = ports.values()
        text, file = FILES[self.kind].read_text(), self.folder / FILES[self.kind].name
        if self.kind == "haproxy":
            file.write_text(changed(text, self.changes))
            told = HAProxy(DataDir(self.folder), self.port, self.other_port, self.ops_port, self.ingests, self.gateways)
            return [program, "-W", "-db", "-f", str(file)], {**told.environment(), **self.env}
        here = {"listen 8080 ": f"listen 127.0.0.1:{self.port} ", "http {": f"http {{ {self._temporary()}"}
        text = self._placed(changed(text, self.changes))
        file.write_text(changed(text, here))
        own = f"daemon off; pid {self.folder}/nginx.pid;{' user root;' if os.getuid() == 0 else ''}"
        return [program, "-p", str(self.folder), "-c", str(file), "-g", own], {}

    def _placed(self, text: str) -> str:
        """With the addresses of the nodes; one that is not there is one that refuses."""
        ports = {node.name: node.port for node in (*self.ingests, *self.gateways)}
        node = r"server ((?:ingest|gateway)-\d):\d+"
        return re.sub(node, lambda found: f"server 127.0.0.1:{ports.get(found[1], 1)}", text)

    def _temporary(self) -> str:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        return " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)

    async def start(self) -> None:
        """Begin a life, on the same port as before; it serves when this returns."""
        process = self._begin()
        async with asyncio.timeout(10):
            while not await answers(self.port):
                assert process.poll() is None, self.log[-2000:]
                await asyncio.sleep(0.02)

    def _begin(self) -> subprocess.Popen[bytes]:
        argv, env = self.command()
        parent = os.getpid()
        with (self.folder / f"{self.kind}.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                env={**os.environ, **env},
                stdout=log,
                stderr=log,
                # NGINX's workers outlive a master that is killed, not one that is told to end.
                preexec_fn=lambda: end_with_parent(parent, signal.SIGTERM),
            )
        return self.process

    @property
    def workers(self) -> list[int]:
        """Those that serve, old ones too."""
        assert self.process is not None
        return [pid for pid in family(self.process.pid)[1:] if lives(pid)]

    def reload(self) -> None:
        """Read its file again; sockets stay with the old workers as long as these may live."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR2 if self.kind == "haproxy" else signal.SIGHUP)

    def kill(self) -> None:
        """``kill -9``, workers and all."""
        if self.process is not None and self.process.poll() is None:
            send(family(self.process.pid), signal.SIGKILL)
            self.process.wait()

    def end(self) -> None:
        """At once, sockets or not."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
        self.kill()
