"""A real Redis Cluster for tests."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stack.composition import join_caches
from stack.ports import allot
from stack.servers.data_dir import DataDir
from stack.servers.valkey import Valkey, cluster_url
from stack.supervisor import Supervisor

NAMES = ("valkey-1", "valkey-2", "valkey-3")


@dataclass
class RedisCluster:
    """Three nodes, kept running in a thread of their own, as `millrace up --cluster` keeps them."""

    url: str
    nodes: list[Valkey]
    supervisor: Supervisor

    def pid(self, port: int) -> int | None:
        """The process that serves this port now."""
        return next(r.pid for r in self.supervisor.children if r.child.port == port)

    def kill(self, port: int) -> None:
        """End a node; it is started again."""
        pid = self.pid(port)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    @classmethod
    @contextmanager
    def running(cls, folder: DataDir) -> Iterator[RedisCluster]:
        ports = allot([*NAMES, *(f"{name}-bus" for name in NAMES)], {}, {})
        nodes = [Valkey(folder, ports[name], name, ports[f"{name}-bus"]) for name in NAMES]
        url = cluster_url(folder, [node.port for node in nodes])
        supervisor, ready, end = Supervisor(), threading.Event(), threading.Event()

        async def keep() -> None:
            try:
                await supervisor.start([await node.prepare() for node in nodes])
                await join_caches(url, nodes)
                ready.set()
                await asyncio.to_thread(end.wait)
            finally:
                await supervisor.stop()

        thread = threading.Thread(target=lambda: asyncio.run(keep()))
        thread.start()
        try:
            assert ready.wait(60)
            yield cls(url, nodes, supervisor)
        finally:
            end.set()
            thread.join()
