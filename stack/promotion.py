"""Promotion of the replica of a cluster on this machine: its folder takes the place of the primary's.

So nothing that connects to the primary needs another address. What the primary had not sent to its replica is lost to
the store; `millrace recover` puts back what Kafka has of it. The supervisor, if it runs, starts the server as soon as
its folder is in place, and then copies a new replica.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stack.errors import OperatorError
from stack.processes import lives
from stack.running import STATE
from stack.servers.data_dir import DataDir
from stack.servers.postgres_files import place, write_for_server
from stack.servers.replica import NAME, PASSWORD, SLOT

PRIMARY = "postgres"
_END_S = 30.0
_RECOVERY = "restore_command = 'false'\n"
"""Ends the recovery where the local WAL ends, on a timeline of its own; there is no archive to read on from."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """Folders of the servers: that of the primary, and that of its replica."""

    folder: DataDir
    primary: Path
    replica: Path

    @classmethod
    def of(cls, folder: DataDir) -> Promotion:
        """Return the promotion of a stack's replica. Raises OperatorError when it has none."""
        made = cls(folder, place(folder, PRIMARY), place(folder, NAME))
        if not (made.replica / "standby.signal").exists():
            raise OperatorError(f"{folder.path} has no replica: only a cluster that was up once has (up --cluster)")
        return made

    def carry_out(self) -> Path:
        """Stop both servers and put the replica's folder in place; return where the primary's is kept.

        Raises OperatorError when a server does not end; each folder is then where it was.
        """
        kept = self.primary.with_name(f"{self.primary.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        promoted = self.replica.with_name(f"{self.replica.name}.promoted")
        with ExitStack() as undoing:
            # The supervisor does not start a server whose folder is not there.
            if self.primary.exists():
                self.primary.rename(kept)
                undoing.callback(kept.rename, self.primary)
            self._end(PRIMARY, signal.SIGQUIT)
            self.replica.rename(promoted)
            undoing.callback(promoted.rename, self.replica)
            self._end(NAME, signal.SIGINT)
            undoing.pop_all()
        for name in ("standby.signal", SLOT, PASSWORD, "postmaster.pid"):
            (promoted / name).unlink(missing_ok=True)
        write_for_server(promoted / "postgresql.auto.conf", _RECOVERY)
        write_for_server(promoted / "recovery.signal", "")
        promoted.rename(self.primary)
        return kept

    def _end(self, name: str, number: signal.Signals) -> None:
        """End a server of the stack, and wait for it."""
        pid = _pid_of(self.folder.read(STATE), name)
        if pid is None or not lives(pid):
            return
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, number)
        give_up = time.monotonic() + _END_S
        while lives(pid):
            if time.monotonic() > give_up:
                raise OperatorError(
                    f"{name} (process {pid}) does not end, so nothing is promoted; end it, and run the command again"
                )
            time.sleep(0.05)


def _pid_of(state: dict[str, Any], name: str) -> int | None:
    found = (process["pid"] for process in state.get("processes", ()) if process["name"] == name)
    return next(found, None)
