"""Java for Kafka: a JVM of this machine, and jars that Maven fetches once (``stack/servers/pom.xml``)."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from stack.child import run_to_end
from stack.errors import StackError
from stack.progress import Progress, Task
from stack.servers.data_dir import move_into_place, require_room

LEAST_JAVA = 17
_KAFKA = "4.3.1"
_POM = Path(__file__).with_name("pom.xml")
_TRANSFER = re.compile(r"(Downloading|Downloaded) from \S+: \S*?([^/\s]+)(?: |$)")
_OR = "or give a broker with MILLRACE_KAFKA__BOOTSTRAP"


def java_major(text: str) -> int | None:
    """The major version in what ``java -version`` prints."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if not found:
        return None
    major = int(found[1])
    return int(found[2] or 0) if major == 1 else major  # 1.8 is Java 8


async def find_java() -> str:
    """Return the Java of JAVA_HOME, else the first in the PATH. Raises StackError when it is missing or too old."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    if java is None:
        where = f"JAVA_HOME is {home}, where no bin/java is" if home else "there is no java in the PATH"
        raise StackError(
            f"Kafka needs Java {LEAST_JAVA} or later, and {where}: install a JDK (for example"
            f" apt-get install openjdk-17-jdk-headless), {_OR}"
        )
    _, output = await run_to_end([java, "-version"], env=os.environ)
    major = java_major(output)
    if major is None or major < LEAST_JAVA:
        raise StackError(
            f"{java} is Java {major or '?'}, and Kafka needs {LEAST_JAVA} or later: set JAVA_HOME to one, {_OR}"
        )
    return java


async def kafka_jars(progress: Progress) -> Path:
    """The folder with the broker's jars, resolved the first time, by one process at a time. Raises StackError."""
    name = f"kafka-{_KAFKA}-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}"
    for cache in caches():
        with suppress(OSError):  # a home that belongs to somebody else
            if (cache / name).exists():
                return cache / name
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError(
            "Maven, which fetches Kafka's jars the first time, is missing: install it (for example"
            f" apt-get install maven), {_OR}"
        )
    jars = writable_cache() / name
    require_room(jars.parent)
    with progress.task("waiting until Kafka is fetched", done=None) as task:
        async with _alone(jars.parent / "lock"):
            if not jars.exists():
                task.name = f"fetching Kafka {_KAFKA} by Maven (54 MB, once)"
                progress.say(task.name)
                await _resolve(maven, jars, task)
                progress.say(f"Kafka {_KAFKA} is in {jars}, after {progress.clock() - task.began:.1f} s")
    return jars


def caches() -> list[Path]:
    """Return the folders in which jars may be, the best first: the user's cache, and the environment that runs us.

    A user may have no home, or one that cannot be written.
    """
    found, given = [], Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        found = [given]
    else:
        with suppress(RuntimeError):  # there is no home
            found = [Path("~").expanduser() / ".cache"]
    return [folder / "millrace" for folder in (*found, Path(sys.prefix) / "cache")]


def writable_cache() -> Path:
    """Return the first cache that can be written; make it if need be. Raises StackError."""
    for cache in caches():
        with suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=cache):
                return cache
    tried = " and ".join(map(str, caches()))
    raise StackError(f"{tried} cannot be written, and Kafka's jars must lie somewhere: set XDG_CACHE_HOME, {_OR}")


def _repository(unfinished: Path) -> list[str]:
    """Maven keeps what it fetches in the home that the system knows, whatever HOME says. Where that cannot be written
    it gets a repository for this time only."""
    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        home = Path(os.environ.get("HOME", "/nonexistent"))
    place = next((folder for folder in (home / ".m2" / "repository", home / ".m2", home) if folder.is_dir()), None)
    if place is not None and os.access(place, os.W_OK | os.X_OK):
        return []
    return [f"-Dmaven.repo.local={unfinished / 'repository'}"]


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


async def _resolve(maven: str, jars: Path, task: Task) -> None:
    """The caller holds the lock of the cache."""
    fetched = 0

    def heard(line: str) -> None:
        nonlocal fetched
        if found := _TRANSFER.search(line):
            fetched += found[1] == "Downloaded"
            task.detail = f"{fetched} files, {found[2]}"

    for leftover in jars.parent.glob("unfinished-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=jars.parent))
    made = unfinished / "jars"
    made.mkdir()
    try:
        goal = ["-B", "-f", str(_POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        code, output = await run_to_end(
            [maven, *goal, f"-DoutputDirectory={made}", *_repository(unfinished)],
            env={**os.environ, "LC_ALL": "C.UTF-8"},  # Java reads the names of files by the locale
            on_line=heard,
        )
        if code:
            raise StackError(f"Maven could not fetch Kafka's jars; is the network there?\n{output.strip()[-600:]}")
        move_into_place(made, jars)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


if __name__ == "__main__":
    try:
        with Progress() as shown:
            asyncio.run(kafka_jars(shown))
    except StackError as exc:
        sys.exit(f"millrace: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)
