"""Processes under measurement, each on its core; none outlives the benchmark."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.machine import cores
from stack.child import end_with_parent

HERE = Path(__file__).parent
_READY_S = 60.0


class BenchError(Exception):
    """A metric cannot be measured here; the text says why."""


@dataclass(slots=True)
class Process:
    """A running process."""

    name: str
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def line(self) -> bytes:
        """Return the next line that it prints. Raises BenchError when it has ended."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise BenchError(f"{self.name} has ended with code {await self.process.wait()}")
        return line.strip()

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self.process.kill()


@asynccontextmanager
async def running(
    name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, core: int | None = None
) -> AsyncIterator[Process]:
    """Run a program while the block runs."""
    parent = os.getpid()

    def bind() -> None:
        end_with_parent(parent)
        if core is not None:
            os.sched_setaffinity(0, {core})

    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
        preexec_fn=bind,
        limit=1 << 20,
    )
    try:
        yield Process(name, process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def python(
    module: str, *args: str, env: Mapping[str, str] | None = None, core: int | None = None
) -> AsyncIterator[Process]:
    """Run a module of this project while the block runs, which begins once the module has printed ``ready``."""
    async with running(module, [sys.executable, "-m", module, *args], env=env, core=core) as process:
        async with asyncio.timeout(_READY_S):
            if await process.line() != b"ready":
                raise BenchError(f"{module} did not become ready")
        yield process


@dataclass(slots=True)
class Load:
    """A wsload process: many clients, controlled by commands on its standard input."""

    process: Process

    async def do(self, command: str) -> dict[str, Any]:
        """Give a command and wait for its answer. Raises BenchError."""
        stdin = self.process.process.stdin
        assert stdin is not None
        stdin.write(f"{command}\n".encode())
        answer: dict[str, Any] = orjson.loads(await self.process.line())
        if "error" in answer:
            raise BenchError(f"wsload, asked to {command!r}: {answer['error']}")
        return answer


@asynccontextmanager
async def load(**env: str) -> AsyncIterator[Load]:
    """Run a load client, on another core than the servers, while the block runs. ``env``: see wsload.c."""
    program = await built("wsload")
    async with running("wsload", [program], env=env, core=cores()[1]) as process:
        yield Load(process)


async def built(name: str) -> Path:
    """Compile a C source beside this file, if need be; return the program. Raises BenchError without a compiler."""
    source, made = HERE / f"{name}.c", HERE / ".built" / name
    if made.exists() and made.stat().st_mtime > source.stat().st_mtime:
        return made
    made.parent.mkdir(exist_ok=True)
    try:
        compiler = await asyncio.create_subprocess_exec("cc", "-O2", "-Wall", "-Wextra", "-o", made, source)
    except FileNotFoundError as exc:
        raise BenchError("a C compiler is needed (cc); on Debian: apt-get install gcc libc6-dev") from exc
    if await compiler.wait():
        raise BenchError(f"{source} could not be compiled")
    return made
