"""PostgreSQL from a wheel, as a foreground child; as root it runs under the user ``nobody``."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from stack.child import Child, run_to_end
from stack.errors import StackError
from stack.logins import OWNER, REPLICA, roles_of_logins
from stack.progress import Progress, silent
from stack.servers.data_dir import DataDir, move_into_place, nobody
from stack.servers.postgres_files import (
    binaries,
    environment,
    place,
    refuse_foreign,
    require_name,
    staging_folder,
    write_for_server,
)
from stack.servers.stale_processes import remove_stale_pid_file
from stack.setup import set_logins

_INITDB = ("--locale-provider=builtin", "--locale=C.UTF-8", "-E", "UTF8", "--auth=scram-sha-256", "-U", OWNER)
STOPPING_S = 4.0
"""The supervisor looks every 5 s, so a server that refuses new sessions is helped to end after 5 to 10 s."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "max_slot_wal_keep_size": "1GB",
    "jit": "off",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """A cluster in the data folder."""

    folder: DataDir
    port: int
    progress: Progress = field(default_factory=silent, compare=False)

    @property
    def dsn(self) -> str:
        """The owner's connection string."""
        return self._dsn(OWNER, self.folder.secret("postgres"))

    @property
    def logins(self) -> dict[str, str]:
        """The connection string of each login."""
        return {name: self._dsn(name, self.password(name)) for name in roles_of_logins()}

    def password(self, login: str) -> str:
        """Return the password of a login."""
        return self.folder.secret(f"postgres-{login}")

    def _dsn(self, user: str, password: str) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/millrace"

    async def make_logins(self) -> None:
        """Make the logins, or set their passwords, once the roles are there. Raises OperatorError."""
        from adapters.postgres.roles import REPLICATION, Login

        roles = {**roles_of_logins(), REPLICA: REPLICATION}
        await set_logins(self.dsn, {name: Login(role, self.password(name)) for name, role in roles.items()})

    async def prepare(self) -> Child:
        """Make the cluster if there never was one, and return how to run the server. Raises StackError."""
        data = place(self.folder, "postgres")
        refuse_foreign(data)
        require_name()
        if not (data / "PG_VERSION").exists():
            self._require_first_time(data)
            with self.progress.task("postgres: making its data folder by initdb"):
                await self._make(data)
        self._made.touch(mode=0o600)
        return Child(
            name="postgres",
            kind="server",
            argv=server(data, {**SETTINGS, "port": str(self.port)}),
            log=self.folder.logs / "postgres.log",
            prepare=partial(self._require_data, data),
            ready=self._ready,
            alive=partial(answers, self.dsn),
            health=lambda: SessionCheck(data),
            env=environment(),
            cwd=Path("/"),
            user=nobody(),
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            ready_s=60,
            port=self.port,
        )

    @property
    def _made(self) -> Path:
        """The mark that the cluster was made once."""
        return self.folder.path / "secrets" / "postgres.made"

    def _require_first_time(self, data: Path) -> None:
        """Raise StackError when the folder was made before: then all messages are lost with it."""
        if self._made.exists():
            raise StackError(
                f"{data} is gone or empty, and with it all messages: put it back from a backup; only to begin again"
                f" without them, remove {self._made}"
            )

    async def _require_data(self, data: Path) -> None:
        """Clear the way for a start. The folder is never made anew here. Raises StackError when it is gone."""
        if not (data / "PG_VERSION").exists():
            self._require_first_time(data)
        await remove_stale_pid_file(data)

    async def _ready(self) -> bool:
        from adapters.postgres.migrate import accepts_connections

        return await accepts_connections(self.dsn)

    async def _make(self, data: Path) -> None:
        with staging_folder(data) as made:
            password = made / "password"
            write_for_server(password, self.folder.secret("postgres"))
            code, output = await run_to_end(
                [binaries() / "initdb", "-D", made / "data", f"--pwfile={password}", *_INITDB],
                env=environment(),
                cwd="/",
                user=nobody(),
            )
            if code:
                raise StackError(f"PostgreSQL could not make its data folder:\n{output.strip()[-600:]}")
            move_into_place(made / "data", data)  # only now, so it is never half-written


async def answers(dsn: str) -> bool:
    """Return whether the server answers at all, also that it is starting or ending."""
    from adapters.postgres.ping import Answer, ping

    return await ping(dsn, 5) is not Answer.NONE


@dataclass(slots=True)
class SessionCheck:
    """Check that the server still has its data, and does not only wait for its sessions to end.

    After SIGTERM ("smart" shutdown) it takes no new session and waits for the old ones, if need be for ever.
    """

    data: Path
    clock: Callable[[], float] = time.monotonic
    _stopping_since: float | None = None

    async def __call__(self) -> str | None:
        if not (self.data / "PG_VERSION").exists():
            return f"has lost its data in {self.data}"
        if not is_stopping(self.data):
            self._stopping_since = None
            return None
        self._stopping_since = self._stopping_since or self.clock()
        waits = self.clock() - self._stopping_since >= STOPPING_S
        return "takes no new sessions and waits for the old ones to end" if waits else None


def is_stopping(data: Path) -> bool:
    """Return whether the server was told to end, as it notes in the eighth line of its pid file."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return lines[7:8] == ["stopping"]


def server(data: Path, settings: Mapping[str, str]) -> list[str]:
    """Return the command of a server."""
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [str(binaries() / "postgres"), "-D", str(data), *options]
