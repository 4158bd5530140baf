"""What Kafka runs on: a Java on this machine, and jars that Maven fetches once (``runtime/kafka/pom.xml``)."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from runtime.stack.child import run_to_end
from runtime.stack.errors import StackError
from runtime.stack.folder import move_into_place, require_room

LEAST_JAVA = 17
_KAFKA = "4.3.1"
_POM = Path(__file__).parent.parent / "kafka" / "pom.xml"
_OR = "or give a broker with MILLRACE_KAFKA__BOOTSTRAP"


def java_major(text: str) -> int | None:
    """The major version in what ``java -version`` prints."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if not found:
        return None
    major = int(found[1])
    return int(found[2] or 0) if major == 1 else major  # 1.8 is Java 8


async def find_java() -> str:
    """That of JAVA_HOME, else the first in the PATH. Raises StackError when it is missing or too old."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    if java is None:
        where = f"JAVA_HOME is {home}, where no bin/java is" if home else "there is no java in the PATH"
        raise StackError(
            f"Kafka needs Java {LEAST_JAVA} or later, and {where}: install a JDK (for example"
            f" apt-get install openjdk-17-jdk-headless), {_OR}"
        )
    _, said = await run_to_end([java, "-version"], env=os.environ)
    major = java_major(said)
    if major is None or major < LEAST_JAVA:
        raise StackError(
            f"{java} is Java {major or '?'}, and Kafka needs {LEAST_JAVA} or later: set JAVA_HOME to one, {_OR}"
        )
    return java


async def kafka_jars(say: Callable[[str], None]) -> Path:
    """The folder with the broker's jars, resolved the first time, by one process at a time. Raises StackError."""
    mark = hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millrace"
    jars = cache / f"kafka-{_KAFKA}-{mark}"
    if jars.exists():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError(
            "Maven, which fetches Kafka's jars the first time, is missing: install it (for example"
            f" apt-get install maven), {_OR}"
        )
    cache.mkdir(parents=True, exist_ok=True)
    require_room(cache)
    async with _alone(cache / "lock"):
        if not jars.exists():
            say(f"fetching Kafka {_KAFKA} (54 MB, once)")
            await _resolve(maven, jars)
    return jars


@asynccontextmanager
async def _alone(file: Path) -> AsyncIterator[None]:
    with file.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.1)
        yield


async def _resolve(maven: str, jars: Path) -> None:
    """The caller holds the lock of the cache."""
    for leftover in jars.parent.glob("unfinished-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=jars.parent))
    try:
        goal = ["-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        code, said = await run_to_end([maven, *goal, f"-DoutputDirectory={unfinished}"], env=os.environ)
        if code:
            raise StackError(f"Maven could not fetch Kafka's jars; is the network there?\n{said.strip()[-600:]}")
        move_into_place(unfinished, jars)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
