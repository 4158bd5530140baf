"""A streaming replica of the embedded PostgreSQL. It is made anew whenever it cannot follow."""

from __future__ import annotations

import secrets
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from domain.errors import Unavailable
from stack.child import Check, Child, run_to_end
from stack.errors import StackError
from stack.logins import REPLICA
from stack.servers.data_dir import move_into_place, nobody
from stack.servers.postgres import SETTINGS, Postgres, SessionCheck, answers, server
from stack.servers.postgres_files import binaries, environment, place, refuse_foreign, staging_folder, write_for_server
from stack.servers.stale_processes import remove_stale_pid_file

NAME = "postgres-replica"
SLOT, PASSWORD = "replication.slot", "replication.password"


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy that follows. The primary keeps what it has not had yet under a slot, up to a bound.

    ``via``: port of a proxy through which it follows. ``synchronous``: commits of the primary wait until it has them.
    """

    primary: Postgres
    port: int
    via: int | None = None
    synchronous: bool = False

    @property
    def logins(self) -> Mapping[str, str]:
        """The connection string of each login; they are those of the primary."""
        return Postgres(self.primary.folder, self.port).logins

    async def prepare(self) -> Child:
        """Return how to run the replica; just before its start it is copied from the primary. Raises StackError."""
        data = place(self.primary.folder, NAME)
        refuse_foreign(data)
        follow = (
            f"host=127.0.0.1 port={self.via or self.primary.port} user={REPLICA} passfile={_quoted(data / PASSWORD)}"
        )
        return Child(
            name=NAME,
            kind="server",
            argv=server(data, {**SETTINGS, "port": str(self.port), "primary_conninfo": follow}),
            log=self.primary.folder.logs / f"{NAME}.log",
            prepare=self._keep_followable,
            alive=partial(answers, Postgres(self.primary.folder, self.port).dsn),
            health=partial(self._check, data),
            ready=self._ready,
            env=environment(),
            cwd=Path("/"),
            user=nobody(),
            stop_signal=signal.SIGINT,
            ready_s=90,
            port=self.port,
        )

    async def _ready(self) -> bool:
        from adapters.postgres.replication import is_streaming, set_synchronous

        if not await is_streaming(Postgres(self.primary.folder, self.port).dsn):
            return False
        await set_synchronous(self.primary.dsn, wanted=self.synchronous)
        return True

    async def _keep_followable(self) -> None:
        from adapters.postgres.replication import drop_slots, is_kept

        data = place(self.primary.folder, NAME)
        await remove_stale_pid_file(data)
        if (data / SLOT).exists() and await is_kept(self.primary.dsn, (data / SLOT).read_text()):
            self._write_password(data / PASSWORD)
            return
        shutil.rmtree(data, ignore_errors=True)
        await drop_slots(self.primary.dsn)
        with self.primary.progress.task(f"{NAME}: copying the primary by pg_basebackup"):
            await self._copy(data, f"replica_{secrets.token_hex(4)}")

    def _write_password(self, file: Path) -> None:
        write_for_server(file, f"127.0.0.1:*:*:{REPLICA}:{self.primary.password(REPLICA)}\n")

    def _check(self, data: Path) -> Check:
        sessions = SessionCheck(data)

        async def check() -> str | None:
            return await sessions() or (None if await self._can_follow(data) else "cannot follow the primary any more")

        return check

    async def _can_follow(self, data: Path) -> bool:
        from adapters.postgres.replication import is_kept

        try:
            return await is_kept(self.primary.dsn, (data / SLOT).read_text())
        except FileNotFoundError:
            return False
        except Unavailable:  # the primary is away; that says nothing
            return True

    async def _copy(self, data: Path, slot: str) -> None:
        with staging_folder(data) as made:
            password = made / "password"
            self._write_password(password)
            where: list[str | Path] = [
                "-h",
                "127.0.0.1",
                "-p",
                str(self.primary.port),
                "-U",
                REPLICA,
                "-D",
                made / "data",
            ]
            how = ["-X", "stream", "-c", "fast", "-C", "-S", slot]
            code, output = await run_to_end(
                [binaries() / "pg_basebackup", *where, *how],
                env={**environment(), "PGPASSFILE": str(password)},
                cwd="/",
                user=nobody(),
            )
            if code:
                raise StackError(f"PostgreSQL could not be copied: {output.strip()[-300:]}")
            copy = made / "data"
            password.rename(copy / PASSWORD)
            write_for_server(copy / "standby.signal", "")
            write_for_server(copy / "postgresql.auto.conf", f"primary_slot_name = '{slot}'\n")
            write_for_server(copy / SLOT, slot)
            move_into_place(copy, data)


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
