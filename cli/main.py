"""The ``millrace`` command."""

from __future__ import annotations

import asyncio
import errno
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import agents, chat, connections, demo, dlq, gateways, replay_irc, topics, users, verify
from cli.audit import audit
from stack.errors import OperatorError, StackError
from stack.running import data_folder, running_stack

app = typer.Typer(
    help="Millrace: an event-streaming pipeline for chat.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(topics.app, name="topics")
app.add_typer(agents.app, name="agents")
app.add_typer(connections.app, name="connections")
app.add_typer(gateways.app, name="gateways")
app.command("audit")(audit)
app.add_typer(dlq.app, name="dlq")
app.add_typer(users.app, name="users")
app.command("send")(chat.send)
app.command("listen")(chat.listen)
app.command("demo")(demo.demo)
app.command("replay-irc")(replay_irc.replay_irc)
app.command("verify")(verify.verify)

Data = Annotated[
    Path | None, typer.Option("--data", help="The data folder; default: MILLRACE_DATA_DIR, or .millrace here.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def up(
    data: Data = None,
    http_port: Annotated[int | None, typer.Option(help="Port of the HTTP API; default: a free one.")] = None,
    ws_port: Annotated[int | None, typer.Option(help="Port of the gateway; default: a free one.")] = None,
    cluster: Annotated[
        bool, typer.Option(help="Three brokers, Redis Cluster, a replica, several of each of our own processes.")
    ] = False,
    servers_only: Annotated[bool, typer.Option(help="Only Kafka, PostgreSQL and Valkey.")] = False,
    with_parent: Annotated[bool, typer.Option(help="End when the calling process ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole pipeline here, in the foreground. Ctrl-C ends everything; the data stays."""
    from stack.up import run_up

    wanted = {name: port for name, port in (("http", http_port), ("ws", ws_port)) if port is not None}
    asyncio.run(
        run_up(
            data_folder(data),
            is_cluster=cluster,
            wanted=wanted,
            servers_only=servers_only,
            with_parent=with_parent,
            as_json=as_json,
        )
    )


@app.command()
def status(data: Data = None, as_json: AsJson = False) -> None:
    """What runs where. Exits 0 only when everything is ready."""
    from stack.status import look, show

    found = asyncio.run(look(data_folder(data)))
    print(json.dumps(found)) if as_json else show(found)
    raise typer.Exit(0 if found["state"] == "ready" else 1)


@app.command()
def down(data: Data = None) -> None:
    """End the stack; the data stays."""
    from stack.status import down as end

    end(data_folder(data))


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help="A process, such as gateway; default: all.")] = None,
    data: Data = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    lines: Annotated[int, typer.Option("-n", help="How many lines of the past.", min=0)] = 50,
) -> None:
    """The logs of the processes."""
    from cli.logs import logs as show

    show(data_folder(data), name, follow=follow, lines=lines)


@app.command()
def token(
    user: Annotated[str, typer.Argument(help="1-64 of A-Z a-z 0-9 _ . : -")],
    ttl: Annotated[str, typer.Option(help="How long it holds: 30m, 1h, 7d.")] = "1h",
    data: Data = None,
) -> None:
    """A token for the stack that runs."""
    from cli.durations import seconds
    from stack.tokens import token_for

    try:
        ttl_s = seconds(ttl)
    except ValueError as exc:
        raise OperatorError(str(exc)) from exc
    print(token_for(running_stack(data), user, ttl_s=ttl_s))


@app.command()
def env(
    servers: Annotated[
        bool, typer.Option("--servers", help="Instead: what ingest, a stage or the gateway needs, started by hand.")
    ] = False,
    data: Data = None,
) -> None:
    """Print variables of the stack that runs: eval "$(millrace env)" sets API, WS and two tokens, ALICE and BOB."""
    from cli.environment import exported, for_clients, for_processes

    stack = running_stack(data)
    print(exported(for_processes(stack) if servers else for_clients(stack)), end="")


@app.command()
def setup(
    replication: Annotated[int | None, typer.Option(help="Instead of the declared one.")] = None,
) -> None:
    """Migrate the database and apply the topics, on the servers that the environment names."""
    from runtime.settings import Settings
    from stack.setup import apply_topics, migrate_database

    settings = Settings()

    async def run() -> None:
        await migrate_database(settings.pg.dsn.get_secret_value())
        for line in await apply_topics(settings.kafka.bootstrap, replication):
            print(line)

    asyncio.run(run())


def main() -> None:
    """The entry point: one line for trouble, never a traceback."""
    try:
        app()
    except (OperatorError, StackError) as exc:
        print(f"millrace: {exc}", file=sys.stderr)
        sys.exit(1)
    except OSError as exc:
        print(f"millrace: {_explain(exc)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _explain(exc: OSError) -> str:
    what = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror or str(exc) or type(exc).__name__
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}: make room on the disk, or choose another folder with --data"
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{what}: run as the user who owns it, or choose another folder with --data"
    return what


if __name__ == "__main__":
    main()
