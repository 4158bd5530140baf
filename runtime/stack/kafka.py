"""Apache Kafka (KRaft, one node) as a foreground child."""

from __future__ import annotations

import os
import shutil
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.stack.child import Child, answers, run_to_end
from runtime.stack.errors import StackError
from runtime.stack.folder import Folder, move_into_place
from runtime.stack.java import find_java, kafka_jars

_JVM = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_QUIET_LOG = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)
_STORAGE = "kafka"


@dataclass(frozen=True, slots=True)
class Kafka:
    """A broker in the data folder, which is its own controller. ``say`` tells the user of a download."""

    folder: Folder
    port: int
    controller_port: int
    say: Callable[[str], None] = lambda _: None

    @property
    def bootstrap(self) -> str:
        """How to connect."""
        return f"127.0.0.1:{self.port}"

    async def prepare(self) -> Child:
        """Get the jars and format the storage if need be, and say how to run it. Raises StackError."""
        java = await find_java()
        jars = await kafka_jars(self.say)
        (self.folder.path / "kafka.properties").write_text(self.properties(_STORAGE))
        if not self._is_formatted():
            await self._format(java, jars)
        return Child(
            name="kafka",
            kind="server",
            argv=[java, *_JVM, *_QUIET_LOG, "-cp", f"{jars}/*", "kafka.Kafka", "kafka.properties"],
            log=self.folder.logs / "kafka.log",
            ready=lambda: answers(self.port),
            env=_env(),
            cwd=self.folder.path,
            stop_s=30,
            ready_s=60,
            port=self.port,
        )

    def properties(self, storage: str) -> str:
        """The broker's configuration. ``storage`` is relative: in an absolute path a comma would part two folders."""
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": storage,
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # A broker that was killed may come back only when its last session has run out.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
        }
        return "".join(f"{name}={value}\n" for name, value in lines.items())

    def _is_formatted(self) -> bool:
        """Raises StackError when somebody else's files are there."""
        storage = self.folder.path / _STORAGE
        meta = storage / "meta.properties"
        if not meta.exists():
            if storage.exists() and any(storage.iterdir()):
                raise StackError(f"{storage} holds something that is no Kafka storage; move it away")
            return False
        lines = meta.read_text().splitlines()
        if "version=1" not in lines or "node.id=1" not in lines:
            raise StackError(f"{storage} was written by another version or node of Kafka; move it away")
        return True

    async def _format(self, java: str, jars: Path) -> None:
        folder = self.folder.path
        unfinished, config = folder / f"{_STORAGE}.new", folder / "kafka-format.properties"
        shutil.rmtree(unfinished, ignore_errors=True)
        config.write_text(self.properties(unfinished.name))
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = [java, "-XX:TieredStopAtLevel=1", *_QUIET_LOG, "-cp", f"{jars}/*", "kafka.tools.StorageTool"]
        # With "=": an id may begin with a dash.
        code, said = await run_to_end(
            [*tool, "format", f"--cluster-id={cluster}", "-c", config.name], env=_env(), cwd=folder
        )
        config.unlink()
        if code:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise StackError(f"Kafka could not format its storage:\n{said.strip()[-600:]}")
        unfinished.chmod(0o700)
        move_into_place(unfinished, folder / _STORAGE)  # only now, so it is never half-written


def _env() -> dict[str, str]:
    # Java reads the names of files by the locale.
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
