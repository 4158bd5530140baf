"""The testbed: a stack of our own, started as a user starts it, with fault proxies before its servers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from stack import topology as topologies
from stack.errors import OperatorError
from stack.running import PORTS, RunningStack, running_stack
from stack.servers.data_dir import DataDir
from stack.topology import PROXY as HAPROXY
from verify.errors import explained
from verify.fault_proxy import FaultProxy, open_proxy

_UP = (sys.executable, "-m", "cli.main", "up", "--with-parent", "--json")
_OWN_MOUNTS = ("unshare", "--mount")
_END_S = 90.0
_LIMITS = {"MILLRACE_LIMITS__FACTORS": "*=10"}
"""Users of a workload send more than people do."""


@dataclass(slots=True)
class Testbed:
    """A running stack. ``data`` is its data folder; ``http`` and ``ws`` are URLs for clients, each of a proxy."""

    data: Path
    proxies: dict[str, FaultProxy]
    """Proxies by the name of their edge: see ``stack.topology``. Those before the front doors are ``http`` and ``ws``,
    with a number when there are several."""
    http: list[str] = field(default_factory=list)
    ws: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    kept: bool = False
    stack: RunningStack = field(init=False)

    @property
    def logs(self) -> Path:
        """Folder of the processes' logs."""
        return self.data / "logs"


@asynccontextmanager
async def open_testbed(
    *,
    cluster: bool,
    environment: Mapping[str, str],
    keep: bool,
    seed: int,
    own_mounts: bool = False,
    options: Sequence[str] = (),
) -> AsyncIterator[Testbed]:
    """Start a stack in a folder of its own, and end it. The folder is removed unless ``keep`` is set or an exception
    ends the block. ``own_mounts``: what is mounted for the stack is seen by nobody else, and gone when it ends.
    ``options``: more words for `millrace up`.

    Raises OperatorError.
    """
    async with AsyncExitStack() as stack:
        topology = topologies.cluster(is_proxied=False) if cluster else topologies.single()
        edges = topology.edges
        proxies = {name: await stack.enter_async_context(open_proxy(seed=seed)) for name in edges}
        testbed = Testbed(_folder(), proxies, kept=keep)
        via = json.dumps({name: proxy.port for name, proxy in proxies.items()})
        try:
            with explained(seed, testbed.logs):
                command = [*(_OWN_MOUNTS if own_mounts else []), *_UP, "--data", str(testbed.data)]
                command += [*(["--cluster"] if cluster else []), *options]
                await _start(testbed, command, edges, {**environment, "MILLRACE_PROXY_PORTS": via})
                await _stand_before_doors(testbed, partial(open_proxy, seed=seed), stack)
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


async def _start(
    testbed: Testbed, command: Sequence[str], edges: Mapping[str, str], environment: Mapping[str, str]
) -> None:
    with (testbed.data / "up.log").open("wb") as log:
        testbed.process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**_LIMITS, **os.environ, **environment},
            start_new_session=True,
        )
    assert testbed.process.stdout is not None
    joining = asyncio.create_task(_join(testbed, edges))
    try:
        line = await testbed.process.stdout.readline()  # it ends by itself when something stands still
    finally:
        joining.cancel()
    if not line:
        words = (testbed.data / "up.log").read_text(errors="replace").strip()[-1500:]
        raise OperatorError(f"the stack did not start:\n{words}\n")
    testbed.stack = running_stack(testbed.data)


async def _join(testbed: Testbed, edges: Mapping[str, str]) -> None:
    """Give each proxy the port behind it, as soon as that is known."""
    while any(testbed.proxies[edge].upstream is None for edge in edges):
        ports = DataDir(testbed.data).read(PORTS)
        for edge, port in edges.items():
            testbed.proxies[edge].upstream = ports.get(port)
        await asyncio.sleep(0.05)


async def _stand_before_doors(
    testbed: Testbed, open_: Callable[[int | None], AbstractAsyncContextManager[FaultProxy]], stack: AsyncExitStack
) -> None:
    """Put a proxy before each front door, for the clients of the run."""
    for name, own, urls in zip(("http", "ws"), _doors(testbed.stack), (testbed.http, testbed.ws), strict=True):
        for number, url in enumerate(own, 1):
            parts = urlsplit(url)
            proxy = await stack.enter_async_context(open_(parts.port))
            testbed.proxies[f"{name}-{number}" if len(own) > 1 else name] = proxy
            urls.append(parts._replace(netloc=f"127.0.0.1:{proxy.port}").geturl())


def _doors(stack: RunningStack) -> tuple[list[str], list[str]]:
    """Return the HTTP and WebSocket URLs for clients: HAProxy's, or, without it, those of all nodes."""
    if stack.is_cluster and not stack.nodes(HAPROXY):
        return [n.http_url for n in stack.nodes("ingest")], [n.ws_url for n in stack.nodes("gateway")]
    return [stack.http_url], [stack.ws_url]


async def _end(testbed: Testbed) -> None:
    process = testbed.process
    if process is None or process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    done, _ = await asyncio.wait({asyncio.ensure_future(process.wait())}, timeout=_END_S)
    if not done:
        process.kill()
        await process.wait()
