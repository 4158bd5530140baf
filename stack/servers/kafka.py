"""Apache Kafka (KRaft) as a foreground child: alone, or one node of a cluster."""

from __future__ import annotations

import os
import shutil
import struct
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from stack.child import Child, run_to_end
from stack.errors import StackError
from stack.probes import answers, replies
from stack.progress import Progress, silent
from stack.servers.data_dir import DataDir, move_into_place
from stack.servers.java import find_java, kafka_jars

_JVM = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_QUIET_LOG = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)
_REPLICAS = 3
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 0, -1)
"""The request that every client begins with: its length, key and version, a correlation id, no client id."""


@dataclass(frozen=True, slots=True)
class Via:
    """A second way to a broker, through a proxy: where the broker listens for it, and where clients find the proxy."""

    port: int
    proxy_port: int


@dataclass(frozen=True, slots=True)
class Kafka:
    """A broker in the data folder, which is a controller too.

    ``controllers``: the ports of all nodes' controllers by node id; empty when the node is alone. ``peers_port``: where
    the other brokers find this one when not on its own port, as behind a proxy.
    """

    folder: DataDir
    port: int
    controller_port: int
    progress: Progress = field(default_factory=silent)
    name: str = "kafka"
    node_id: int = 1
    controllers: Mapping[int, int] = field(default_factory=dict)
    via: Via | None = None
    peers_port: int | None = None

    @property
    def bootstrap(self) -> str:
        """The bootstrap server for clients."""
        return f"127.0.0.1:{self.port}"

    async def prepare(self) -> Child:
        """Get the jars and format the storage if need be, and return how to run the broker. Raises StackError."""
        java = await find_java()
        jars = await kafka_jars(self.progress)
        self._require_own_storage()
        await self._keep_formatted(java, jars)
        return Child(
            name=self.name,
            kind="server",
            argv=[java, *_JVM, *_QUIET_LOG, "-cp", f"{jars}/*", "kafka.Kafka", f"{self.name}.properties"],
            log=self.folder.logs / f"{self.name}.log",
            prepare=partial(self._keep_formatted, java, jars),
            ready=lambda: answers(self.port),
            alive=lambda: replies(self.port, _API_VERSIONS),
            health=lambda: self._lost_storage,
            env=_env(),
            cwd=self.folder.path,
            stop_s=30,
            ready_s=60,
            port=self.via.port if self.via else self.port,
        )

    def properties(self, storage: str) -> str:
        """Return the configuration. ``storage`` is relative: a comma in an absolute path would name two folders."""
        controllers = {**self.controllers, self.node_id: self.controller_port}
        replicas = min(_REPLICAS, len(controllers))
        in_sync = str(max(1, replicas - 1))
        lines = {
            "process.roles": "broker,controller",
            "node.id": str(self.node_id),
            "controller.quorum.voters": ",".join(f"{id_}@127.0.0.1:{port}" for id_, port in controllers.items()),
            **self._listeners(),
            "log.dirs": storage,
            "auto.create.topics.enable": "false",
            "default.replication.factor": str(replicas),
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": str(replicas),
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": str(replicas),
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": str(replicas),
            "share.coordinator.state.topic.min.isr": in_sync,
            # A broker that was killed is replaced, and may come back, only when its last session has run out.
            "broker.session.timeout.ms": "3000" if replicas == 1 else "2000",
            "broker.heartbeat.interval.ms": "500",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
        }
        if replicas > 1:
            # The broker that was killed may have been the active controller.
            lines |= {"controller.quorum.fetch.timeout.ms": "1000", "controller.quorum.election.timeout.ms": "500"}
        return "".join(f"{name}={value}\n" for name, value in lines.items())

    def _users(self) -> Sequence[str]:
        """Return the options of the tool that add users to the storage; there are none without SASL."""
        return ()

    def _listeners(self) -> dict[str, str]:
        listeners, advertised = {"PLAINTEXT": self.port}, {"PLAINTEXT": self.peers_port or self.port}
        if self.via is not None:
            listeners["PROXIED"], advertised["PROXIED"] = self.via.port, self.via.proxy_port
        listeners["CONTROLLER"] = self.controller_port
        return {
            "listeners": _addresses(listeners),
            "advertised.listeners": _addresses(advertised),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
            "controller.listener.names": "CONTROLLER",
        }

    @property
    def _storage(self) -> Path:
        return self.folder.path / self.name

    def _require_own_storage(self) -> None:
        """Raise StackError when somebody else's files are there."""
        storage, meta = self._storage, self._storage / "meta.properties"
        if not meta.exists():
            if storage.exists() and any(storage.iterdir()):
                raise StackError(f"{storage} holds something that is not Kafka storage: move it away")
            return
        lines = meta.read_text().splitlines()
        if "version=1" not in lines or f"node.id={self.node_id}" not in lines:
            raise StackError(f"{storage} was written by another version or node of Kafka; move it away")

    async def _lost_storage(self) -> str | None:
        return None if (self._storage / "meta.properties").exists() else f"has lost its storage in {self._storage}"

    async def _keep_formatted(self, java: str, jars: Path) -> None:
        """Write the configuration, and format the storage when there is none: all that it held is in PostgreSQL.

        The cluster id stays, so a broker among others is the same member. Raises StackError.
        """
        (self.folder.path / f"{self.name}.properties").write_text(self.properties(self.name))
        if await self._lost_storage():
            _set_aside(self._storage)
            with self.progress.task(f"{self.name}: formatting its storage"):
                await self._format(java, jars)

    async def _format(self, java: str, jars: Path) -> None:
        folder = self.folder.path
        unfinished, config = folder / f"{self.name}.new", folder / f"{self.name}-format.properties"
        shutil.rmtree(unfinished, ignore_errors=True)
        config.write_text(self.properties(unfinished.name))
        cluster = urlsafe_b64encode(bytes.fromhex(self.folder.secret("kafka"))[:16]).decode().rstrip("=")
        tool = [java, "-XX:TieredStopAtLevel=1", *_QUIET_LOG, "-cp", f"{jars}/*", "kafka.tools.StorageTool"]
        # With "=": an id may begin with a dash.
        code, output = await run_to_end(
            [*tool, "format", f"--cluster-id={cluster}", "-c", config.name, *self._users()], env=_env(), cwd=folder
        )
        config.unlink()
        if code:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise StackError(f"Kafka could not format its storage:\n{output.strip()[-600:]}")
        unfinished.chmod(0o700)
        move_into_place(unfinished, self._storage)  # only now, so it is never half-written


def _set_aside(storage: Path) -> None:
    """Make room for a storage where a broker that lost its own has written since."""
    if storage.exists():
        lost = storage.with_name(f"{storage.name}.lost")
        shutil.rmtree(lost, ignore_errors=True)
        storage.rename(lost)


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def _env() -> dict[str, str]:
    # Java reads the names of files by the locale.
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
