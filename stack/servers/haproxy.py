"""HAProxy in front of several ingests and gateways, where it is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stack.child import Child
from stack.probes import answers, http_get, replies
from stack.servers.data_dir import DataDir

_BESIDE = Path(__file__).with_name("haproxy.cfg")  # in a wheel
_ROOT = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"  # in a checkout

# On one machine all clients come from one address, and who waits for an end does not wait for idle sockets.
_HERE = {"FRONT_HANDSHAKES": "1000000", "FRONT_HARD_STOP": "30s"}


@dataclass(frozen=True, slots=True)
class Backend:
    """A process behind the proxy; its operator port reports whether it is ready."""

    name: str
    port: int
    ops_port: int


@dataclass(frozen=True, slots=True)
class HAProxy:
    """The front of production, on 127.0.0.1 only. HTTP and WebSocket have a port each; each serves both."""

    folder: DataDir
    http_port: int
    ws_port: int
    ops_port: int
    ingests: Sequence[Backend]
    gateways: Sequence[Backend]

    async def prepare(self) -> Child:
        """Return how to run the proxy."""
        return Child(
            name="haproxy",
            kind="proxy",
            argv=[find_haproxy() or "haproxy", "-W", "-db", "-f", str(configuration())],
            log=self.folder.logs / "haproxy.log",
            ready=lambda: answers(self.ops_port, "/readyz"),
            alive=lambda: replies(self.ops_port, http_get("/readyz")),
            env={"PATH": os.environ.get("PATH", ""), **self.environment()},
            cwd=self.folder.path,
            ready_s=30,
            port=self.http_port,
            ops_port=self.ops_port,
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that the configuration reads."""
        nodes = (*self.ingests, *self.gateways)
        binds = ",".join(f"127.0.0.1:{port}" for port in (self.http_port, self.ws_port))
        return {
            "FRONT_BIND": binds,
            "FRONT_OPS_BIND": f"127.0.0.1:{self.ops_port}",
            **{variable(node.name): f"127.0.0.1:{node.port}" for node in nodes},
            **{f"{variable(node.name)}_OPS": str(node.ops_port) for node in nodes},
            **_HERE,
        }


def configuration() -> Path:
    """Return ``deploy/haproxy.cfg``, the configuration of production."""
    return _BESIDE if _BESIDE.exists() else _ROOT


def variable(name: str) -> str:
    """Return the name of a node in the configuration: ``GATEWAY_1`` for ``gateway-1``."""
    return name.upper().replace("-", "_")


def find_haproxy() -> str | None:
    """Return the program in the PATH, or in ``/usr/sbin``, which Debian has only in the PATH of root; else None."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
