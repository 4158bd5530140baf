"""Find the stack that runs in a data folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.kafka_settings import Kafka
from stack.errors import OperatorError
from stack.logins import dsn_for
from stack.servers.data_dir import DataDir
from stack.tokens import Signer
from stack.topology import role

STATE, PORTS = "state.json", "ports.json"


@dataclass(frozen=True, slots=True)
class Node:
    """A process of a stack, reached directly. ``pid`` is None while it restarts, or when it was left out."""

    name: str
    pid: int | None
    port: int | None
    ops_port: int | None

    @property
    def http_url(self) -> str:
        """The HTTP URL of an ingest."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """The WebSocket URL of a gateway."""
        return f"ws://127.0.0.1:{self.port}/ws"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStack:
    """The addresses and processes of a stack that runs on this machine. Secrets stay out of its repr.

    ``pg_dsn`` is the owner's; ``logins`` are connection strings of least privilege by kind of process, none for a
    PostgreSQL that is given. ``signer`` is None when an issuer with keys of its own signs the tokens.
    """

    data: Path
    http_url: str
    ws_url: str
    kafka: Kafka = field(repr=False)
    pg_dsn: str = field(repr=False)
    redis_url: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    logins: Mapping[str, str] = field(default_factory=dict, repr=False)
    signer: Signer | None = field(default=None, repr=False)
    supervisor: int
    is_cluster: bool = False
    left_out: tuple[Node, ...] = ()
    processes: tuple[dict[str, Any], ...] = ()

    def pg_dsn_of(self, process: str) -> str:
        """Return the connection string of a process, or of ``operator``."""
        return dsn_for(process, self.logins, self.pg_dsn)

    def nodes(self, kind: str) -> tuple[Node, ...]:
        """Return the processes of one kind, such as ``gateway``, as they were when the stack was looked up."""
        return tuple(
            Node(p["name"], p["pid"], p["port"], p["opsPort"]) for p in self.processes if role(p["name"]) == kind
        )


def data_dir(given: Path | None) -> DataDir:
    """Return the folder that was given, or MILLRACE_DATA_DIR, or ``.millrace`` here."""
    return DataDir((given or Path(os.environ.get("MILLRACE_DATA_DIR", ".millrace"))).absolute())


def running_stack(data: Path | None = None) -> RunningStack:
    """Return the stack that runs in the folder. Raises OperatorError when none does."""
    folder = data_dir(data)
    holder, state = folder.holder(), folder.read(STATE)
    if holder is None or not state.get("urls"):
        raise OperatorError(f"nothing runs in {folder.path}: start it with `make up`, or name its folder with --data")
    try:
        return _stack_of(folder, holder, state)
    except KeyError as exc:
        raise OperatorError(f"the stack in {folder.path} must be of this version: stop it and start it again") from exc


def _stack_of(folder: DataDir, holder: int, state: Mapping[str, Any]) -> RunningStack:
    servers, secret, auth = state["servers"], folder.secret("jwt"), state["auth"]
    return RunningStack(
        data=folder.path,
        http_url=state["urls"]["http"],
        ws_url=state["urls"]["ws"],
        kafka=Kafka.of(state["kafka"]),
        pg_dsn=servers["pg"],
        logins=state["logins"],
        redis_url=servers["redis"],
        jwt_secret=secret,
        signer=Signer(secret, auth["issuer"], auth["audience"]) if auth["signsItsOwn"] else None,
        supervisor=holder,
        is_cluster=state["kind"] == "cluster",
        left_out=tuple(Node(p["name"], None, p["port"], p["opsPort"]) for p in state["leftOut"]),
        processes=tuple(state["processes"]),
    )
