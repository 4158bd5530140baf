"""HAProxy in front of several ingests and gateways, where it is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.stack.child import Child, answers
from runtime.stack.folder import Folder, write_privately

# No query strings (they may hold tokens) and no headers in the log.
_CONFIG = """\
global
  log stdout format raw local0 info
  maxconn 8000
  hard-stop-after 30s

defaults
  mode http
  log global
  option dontlognull
  option dontlog-normal
  option redispatch
  retries 2
  log-format "%ci %ft %b/%s %ST %Tr/%Ta ms %B bytes %ts %HM %[var(txn.path)]"
  default-server check inter 500ms fall 2 rise 1
  timeout connect 2s
  timeout client 75s
  timeout server 75s
  timeout http-request 15s
  timeout http-keep-alive 75s
  timeout tunnel 60s
  timeout check 2s

frontend http
  bind 127.0.0.1:{http}
  option forwardfor
  http-request set-var(txn.path) path
  default_backend ingest

frontend ws
  bind 127.0.0.1:{ws}
  option forwardfor
  http-request set-var(txn.path) path
  default_backend gateway

backend ingest
  balance leastconn
  option httpchk GET /readyz
{ingests}

backend gateway
  balance leastconn
  option httpchk GET /readyz
{gateways}
"""


@dataclass(frozen=True, slots=True)
class Backend:
    """One process behind the proxy; its operator port says whether it is ready."""

    name: str
    port: int
    ops_port: int


@dataclass(frozen=True, slots=True)
class HAProxy:
    """One front for HTTP, one for WebSocket, on 127.0.0.1 only."""

    folder: Folder
    http_port: int
    ws_port: int
    ingests: Sequence[Backend]
    gateways: Sequence[Backend]

    async def prepare(self) -> Child:
        """Write its configuration, and say how to run it."""
        write_privately(self.folder.path / "haproxy.cfg", self.config())
        return Child(
            name="haproxy",
            kind="proxy",
            argv=[find_haproxy() or "haproxy", "-db", "-f", "haproxy.cfg"],
            log=self.folder.logs / "haproxy.log",
            ready=lambda: answers(self.http_port),
            env={"PATH": os.environ.get("PATH", "")},
            cwd=self.folder.path,
            ready_s=30,
            port=self.http_port,
        )

    def config(self) -> str:
        """The proxy's configuration."""
        return _CONFIG.format(
            http=self.http_port, ws=self.ws_port, ingests=_lines(self.ingests), gateways=_lines(self.gateways)
        )


def find_haproxy() -> str | None:
    """The one in the PATH; Debian puts it where only root's PATH leads."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")


def _lines(backends: Sequence[Backend]) -> str:
    return "\n".join(f"  server {b.name} 127.0.0.1:{b.port} port {b.ops_port}" for b in backends)
