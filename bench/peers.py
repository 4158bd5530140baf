"""Peers, installed by npm into a cache folder at their first use."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from bench.process import HERE, BenchError, Process, running

_WAIT_S = 300.0


async def installed() -> Path:
    """Install the peers if need be; return the folder of their modules. Raises BenchError with what is missing."""
    manifest = HERE / "peers" / "package.json"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "millrace-bench" / sha256(manifest.read_bytes()).hexdigest()[:12]
    modules = folder / "node_modules"
    if (folder / "complete").exists():
        return modules
    if not (shutil.which("npm") and shutil.which("node")):
        raise BenchError("the peers need Node.js 20 and npm")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(manifest, folder)
    npm = await asyncio.create_subprocess_exec("npm", "install", "--no-audit", "--no-fund", "--silent", cwd=folder)
    try:
        async with asyncio.timeout(_WAIT_S):
            failed = await npm.wait()
    except TimeoutError:
        npm.kill()
        failed = await npm.wait()
    if failed:
        raise BenchError("npm could not install the peers: is there a network?")
    (folder / "complete").touch()
    return modules


@asynccontextmanager
async def peer(name: str, port: int, env: Mapping[str, str]) -> AsyncIterator[Process]:
    """Run a peer, ready, while the block runs. Raises BenchError."""
    more = {"NODE_PATH": str(await installed()), **env}
    async with running(name, ["node", HERE / "peers" / name / "server.js", str(port)], env=more) as process:
        async with asyncio.timeout(30):
            if await process.line() != b"ready":
                raise BenchError(f"{name} did not start")
        yield process
