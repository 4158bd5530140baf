"""Apache Kafka (KRaft, one node) as a foreground child. Its jars come once, by Maven (``runtime/kafka/pom.xml``)."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.stack.child import Child, answers
from runtime.stack.errors import StackError
from runtime.stack.folder import Folder

VERSION = "4.3.1"
LEAST_JAVA = 17
_POM = Path(__file__).parent.parent / "kafka" / "pom.xml"
_JVM = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_QUIET_LOG = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)


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

    def child(self) -> Child:
        """Get the jars and format the storage if need be, and say how to run it. Raises StackError."""
        java = _java()
        jars = _jars(self.say)
        config = self.folder.path / "kafka.properties"
        data = self.folder.path / "kafka"
        config.write_text(self.properties(data))
        if not (data / "meta.properties").exists():
            self._format(java, jars, data)
        return Child(
            name="kafka",
            kind="server",
            argv=[java, *_JVM, *_QUIET_LOG, "-cp", f"{jars}/*", "kafka.Kafka", str(config)],
            log=self.folder.logs / "kafka.log",
            ready=lambda: answers(self.port),
            env={"PATH": os.environ.get("PATH", "")},
            stop_s=30,
            ready_s=60,
        )

    def properties(self, data: Path) -> str:
        """The broker's configuration."""
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(data),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
        }
        return "".join(f"{name}={value}\n" for name, value in lines.items())

    def _format(self, java: str, jars: Path, data: Path) -> None:
        if data.exists() and any(data.iterdir()):
            raise StackError(f"{data} holds something that is no Kafka storage; move it away")
        unfinished = data.with_name("kafka.new")  # renamed when complete, so never half-written
        shutil.rmtree(unfinished, ignore_errors=True)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        with tempfile.NamedTemporaryFile("w", suffix=".properties") as config:
            config.write(self.properties(unfinished))
            config.flush()
            done = subprocess.run(
                [java, "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format", "-t", cluster, "-c", config.name],
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise StackError(f"Kafka could not format its storage:\n{done.stderr.strip()[-600:]}")
        if data.exists():
            data.rmdir()
        unfinished.rename(data)


def java_major(text: str) -> int | None:
    """The major version in the first lines of ``java -version``."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if not found:
        return None
    major = int(found[1])
    return int(found[2] or 0) if major == 1 else major  # 1.8 is Java 8


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise StackError(
            f"Java is missing: Kafka needs Java {LEAST_JAVA} or later. Install a JDK (for example openjdk-17-jdk), or"
            " set JAVA_HOME, or give a broker with MILLRACE_KAFKA__BOOTSTRAP"
        )
    text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    major = java_major(text)
    if major is None or major < LEAST_JAVA:
        raise StackError(f"{java} is Java {major or '?'}; Kafka needs {LEAST_JAVA} or later. Set JAVA_HOME to one")
    return java


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millrace"


def _jars(say: Callable[[str], None]) -> Path:
    """The folder with the broker's jars; resolved by Maven the first time, by one process at a time."""
    mark = hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
    jars = _cache() / f"kafka-{VERSION}-{mark}"
    if jars.exists():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError(
            "Maven is missing: it fetches Kafka's jars the first time. Install it (for example: apt-get install maven),"
            " or give a broker with MILLRACE_KAFKA__BOOTSTRAP"
        )
    jars.parent.mkdir(parents=True, exist_ok=True)
    with (jars.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.exists():
            say(f"fetching Kafka {VERSION} (54 MB, once)")
            _resolve(maven, jars)
    return jars


def _resolve(maven: str, jars: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix="kafka-", dir=jars.parent))
    goal = ["-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    done = subprocess.run(
        [maven, *goal, f"-DoutputDirectory={unfinished}"], capture_output=True, text=True, check=False
    )
    if done.returncode or not any(unfinished.glob("kafka_*.jar")):
        shutil.rmtree(unfinished, ignore_errors=True)
        raise StackError(f"Maven could not fetch Kafka's jars; is the network there?\n{done.stdout.strip()[-600:]}")
    unfinished.chmod(0o755)
    unfinished.rename(jars)
