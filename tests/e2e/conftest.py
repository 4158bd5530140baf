"""What the tests of the whole stack share."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect

from adapters.auth import issue
from schemas.ids import new_id
from stack.child import end_with_parent
from stack.running import RunningStack

ROOT = Path(__file__).parents[2]
SECRET = "nobody may read this in a report"


@dataclass
class Person:
    """A user with a token and a connection to the HTTP API."""

    user: str
    token: str
    http: httpx2.Client
    ws_url: str

    def create(self, *members: str) -> str:
        answer = self.http.post("/conversations", json={"members": members})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["conversationId"])

    def send(self, room: str, content: str = "hi", **more: Any) -> dict[str, Any]:
        answer = self.http.post("/messages", json={"conversationId": room, "type": "text", "content": content, **more})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    @asynccontextmanager
    async def live(self):
        headers = {"Authorization": f"Bearer {self.token}"}
        async with connect(self.ws_url, additional_headers=headers, compression=None) as socket:
            client = Socket(socket)
            await client.next("connected")
            yield client


@dataclass
class Socket:
    """A live socket."""

    socket: ClientConnection

    async def say(self, **fields: Any) -> None:
        await self.socket.send(orjson.dumps(fields).decode())

    async def next(self, *kinds: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                said: dict[str, Any] = orjson.loads(await self.socket.recv())
                if not kinds or said["type"] in kinds:
                    return said


def person_of(stack: RunningStack, name: str) -> Person:
    """Somebody new on this stack, whose id begins with the given name."""
    user = f"{name}-{new_id()[-8:]}"
    token = issue(stack.jwt_secret, user, ttl_s=600)
    client = httpx2.Client(base_url=stack.http_url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    return Person(user, token, client, stack.ws_url)


@pytest.fixture
def person(stack: RunningStack) -> Callable[..., Person]:
    """Somebody new, whose id begins with the given name."""
    return partial(person_of, stack)


def millrace(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """The command, as a user calls it; it is interrupted when we end."""
    command, us = [sys.executable, "-m", "cli.main", *arguments], os.getpid()
    more = {"cwd": ROOT, "timeout": 170, "preexec_fn": lambda: end_with_parent(us, signal.SIGINT), **more}
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines on standard error, without the first if it names the stack that the command worked on."""
    lines = done.stderr.splitlines()
    return lines[1:] if lines and lines[0].startswith("stack: ") else lines


def status(stack: RunningStack) -> dict[str, Any]:
    """``millrace status --json``."""
    return dict(json.loads(millrace("status", "--json", "--data", str(stack.data)).stdout))


def process(stack: RunningStack, name: str) -> dict[str, Any]:
    """One process of the stack, as it is now."""
    state = json.loads((stack.data / "state.json").read_text())
    return next(dict(p) for p in state["processes"] if p["name"] == name)


def kill(stack: RunningStack, name: str, number: int = signal.SIGKILL) -> None:
    """End one process of the stack; the supervisor starts it again."""
    os.kill(process(stack, name)["pid"], number)


def until(condition: Callable[[], Any], seconds: float = 40.0) -> Any:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def audit(stack: RunningStack, room: str, *more: str) -> dict[str, Any]:
    """``millrace audit`` of one conversation; its exit code is that of its verdict."""
    about = ("--conversation", room, "--older-than", "1s", "--json", "--data", str(stack.data))
    done = millrace("audit", *about, *more)
    assert errors(done) == []
    assert SECRET not in done.stdout
    said = dict(json.loads(done.stdout))
    assert done.returncode == (0 if said["clean"] else 1)
    said["by"] = {line["check"]: line for line in said["checks"]}
    said["found"] = {(f["check"], f["kind"], f["seq"]) for f in said["findings"]}
    return said


def settled(stack: RunningStack, room: str) -> dict[str, Any]:
    """The audit once it is clean and waits for nothing."""

    def look() -> dict[str, Any] | None:
        said = audit(stack, room)
        return None if not said["clean"] or any(line["waiting"] for line in said["checks"]) else said

    return dict(until(look))
