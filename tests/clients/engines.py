"""JavaScript engines other than ours to be a client in: a real browser, and Node.js. Each evaluates expressions."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect

from stack.child import end_with_parent
from stack.ports import allot
from stack.processes import family
from verify.faults.process import send

CLIENT = Path(__file__).with_name("client.js")

# Each line is an expression as JSON text; the answer is what it resolves to. So no token is on a command line.
_NODE = """
require("node:readline").createInterface({ input: process.stdin }).on("line", async (line) => {
  try { console.log(JSON.stringify({ value: await require("node:vm").runInThisContext(JSON.parse(line)) })); }
  catch (error) { console.log(JSON.stringify({ error: String(error) })); }
});
"""
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
)


class Engine(Protocol):
    """Something that runs JavaScript."""

    async def evaluate(self, expression: str) -> Any:
        """What the expression is, or resolves to, as JSON can say it. Raises AssertionError when it throws."""


def _run(argv: list[str], **more: Any) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    return subprocess.Popen(argv, preexec_fn=lambda: end_with_parent(parent), **more)


def _end(process: subprocess.Popen[bytes]) -> None:
    send(family(process.pid), signal.SIGKILL)
    process.wait()


@dataclass
class Node:
    """Node.js with its own WebSocket client, which has no line in common with ours."""

    process: subprocess.Popen[bytes]

    async def evaluate(self, expression: str) -> Any:
        return await asyncio.to_thread(self._ask, expression)

    def _ask(self, expression: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(expression).encode() + b"\n")
        self.process.stdin.flush()
        said = json.loads(self.process.stdout.readline())
        assert "error" not in said, said
        return said.get("value")


def _node() -> list[str]:
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node.js is not installed (apt-get install nodejs)")
    command = [program, "--experimental-websocket", "--no-warnings", "-e"]
    if subprocess.run([*command, "WebSocket"], capture_output=True).returncode:
        pytest.skip("this Node.js has no WebSocket of its own; 20.10 or later has")
    return command


@asynccontextmanager
async def open_node(_: str, __: Path) -> AsyncIterator[Engine]:
    """Skips the test where Node.js is missing or has no WebSocket."""
    command = _node()
    process = _run([*command, _NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Node(process)
    finally:
        _end(process)


@dataclass
class Browser:
    """One page of Chromium, by the DevTools protocol."""

    socket: ClientConnection
    origin: str
    _count: int = field(default=0)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        await self.socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        async with asyncio.timeout(60):
            while True:
                said = json.loads(await self.socket.recv())
                if said.get("id") == self._count:
                    assert "error" not in said, said
                    return dict(said["result"])

    async def visit(self, url: str) -> None:
        """Open a page of this address, whatever is on it: what counts is whose it is."""
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(30):
            loaded = f"location.href === {url!r} && document.readyState === 'complete'"
            while not await self.evaluate(loaded):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def evaluate(self, expression: str) -> Any:
        said = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")


@asynccontextmanager
async def open_browser(origin: str, folder: Path) -> AsyncIterator[Browser]:
    """A page of this origin. Skips the test where Chromium is missing."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    port = allot(["devtools"], {}, {})["devtools"]
    own = [f"--remote-debugging-port={port}", f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with (folder / "chromium.log").open("wb") as log:
        process = _run([program, *_FLAGS, *own], stdout=log, stderr=log)
    try:
        page = await _first_page(port)
        async with connect(page, max_size=None, proxy=None, ping_interval=None) as socket:
            browser = Browser(socket, origin)
            await browser.visit(f"{origin}/")
            yield browser
    finally:
        _end(process)


async def _first_page(port: int) -> str:
    async with httpx2.AsyncClient(trust_env=False) as client, asyncio.timeout(60):
        while True:
            with suppress(httpx2.TransportError):
                targets = (await client.get(f"http://127.0.0.1:{port}/json/list")).json()
                if pages := [target for target in targets if target["type"] == "page"]:
                    return str(pages[0]["webSocketDebuggerUrl"])
            await asyncio.sleep(0.1)
