"""The testbed: a stack of our own, started as a user starts it, with fault proxies before its servers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stack.errors import OperatorError
from stack.running import STATE, RunningStack, running_stack
from stack.servers.data_dir import DataDir
from verify.errors import explained
from verify.fault_proxy import FaultProxy, open_proxy

EDGES = ("postgres", "valkey", "kafka")
CLUSTER_EDGES = ("postgres", "kafka-1", "kafka-2", "kafka-3")
_END_S = 90.0
_LIMITS = {"MILLRACE_LIMITS__FACTORS": "*=10"}
"""Users of a workload send more than people do."""


@dataclass(slots=True)
class Testbed:
    """A running stack. ``data`` is its data folder."""

    data: Path
    proxies: Mapping[str, FaultProxy]
    """Proxies by the name of the server behind them."""
    process: asyncio.subprocess.Process | None = None
    kept: bool = False
    stack: RunningStack = field(init=False)

    @property
    def logs(self) -> Path:
        """Folder of the processes' logs."""
        return self.data / "logs"


@asynccontextmanager
async def open_testbed(
    *, cluster: bool, environment: Mapping[str, str], keep: bool, seed: int
) -> AsyncIterator[Testbed]:
    """Start a stack in a folder of its own, and end it. The folder is removed unless ``keep`` is set or an exception
    ends the block. Raises OperatorError."""
    async with AsyncExitStack() as stack:
        edges = CLUSTER_EDGES if cluster else EDGES
        proxies = {name: await stack.enter_async_context(open_proxy(seed=seed)) for name in edges}
        testbed = Testbed(_folder(), proxies, kept=keep)
        via = json.dumps({name: proxy.port for name, proxy in proxies.items()})
        try:
            with explained(seed, testbed.logs):
                await _start(testbed, cluster, {**environment, "MILLRACE_PROXY_PORTS": via})
            yield testbed
        except BaseException:  # Ctrl-C, too
            testbed.kept = True  # whatever it was, the folder says more of it
            raise
        finally:
            await _end(testbed)
            if not testbed.kept:
                shutil.rmtree(testbed.data, ignore_errors=True)


def _folder() -> Path:
    data = Path(tempfile.mkdtemp(prefix="millrace-verify-"))
    data.chmod(0o755)  # PostgreSQL may have to run under another user
    return data


async def _start(testbed: Testbed, cluster: bool, environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "cli.main", "up", "--data", str(testbed.data), "--with-parent", "--json"]
    with (testbed.data / "up.log").open("wb") as log:
        testbed.process = await asyncio.create_subprocess_exec(
            *command,
            *(["--cluster"] if cluster else []),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**_LIMITS, **os.environ, **environment},
            start_new_session=True,
        )
    assert testbed.process.stdout is not None
    joining = asyncio.create_task(_join(testbed))
    try:
        line = await testbed.process.stdout.readline()  # it ends by itself when something stands still
    finally:
        joining.cancel()
    if not line:
        words = (testbed.data / "up.log").read_text(errors="replace").strip()[-1500:]
        raise OperatorError(f"the stack did not start:\n{words}\n")
    testbed.stack = running_stack(testbed.data)


async def _join(testbed: Testbed) -> None:
    """Give each proxy the port of its server, as soon as that is known."""
    while any(proxy.upstream is None for proxy in testbed.proxies.values()):
        for process in DataDir(testbed.data).read(STATE).get("processes", []):
            if process["name"] in testbed.proxies:
                testbed.proxies[process["name"]].upstream = process["port"]
        await asyncio.sleep(0.05)


async def _end(testbed: Testbed) -> None:
    process = testbed.process
    if process is None or process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    done, _ = await asyncio.wait({asyncio.ensure_future(process.wait())}, timeout=_END_S)
    if not done:
        process.kill()
        await process.wait()
