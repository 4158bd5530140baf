"""The ``millrace`` command."""

from __future__ import annotations

import asyncio
import errno
import json
import sys
from typing import Annotated

import typer

from cli import acls, agents, chat, connections, demo, dlq, gateways, replay_irc, topics, users, verify
from cli.audit import audit
from cli.command import (
    AsJson,
    Data,
    DataFolder,
    check_environment,
    explain,
    find_folder,
    find_target,
    print_result,
    run,
)
from cli.recover import recover
from cli.target import Server, shown_path
from domain.errors import MillraceError
from runtime.logs import configure_command
from runtime.terminal import buffer_output, visible_lines
from runtime.variables import BadSettings
from stack.errors import OperatorError, StackError
from stack.running import data_dir, running_stack

app = typer.Typer(
    help="Millrace: an event-streaming pipeline for chat.\n\n"
    "A command works on the stack of --data, else of the environment (MILLRACE_PG__DSN, MILLRACE_KAFKA__BOOTSTRAP,"
    " MILLRACE_REDIS__URL, …), else of .millrace in this folder. It prints which one on standard error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
topics.app.add_typer(acls.app, name="acls")
app.add_typer(topics.app, name="topics")
app.add_typer(agents.app, name="agents")
app.add_typer(connections.app, name="connections")
app.add_typer(gateways.app, name="gateways")
app.command("audit")(audit)
app.command("recover")(recover)
app.add_typer(dlq.app, name="dlq")
app.add_typer(users.app, name="users")
app.command("send")(chat.send)
app.command("listen")(chat.listen)
app.command("demo")(demo.demo)
app.command("replay-irc")(replay_irc.replay_irc)
app.command("verify")(verify.verify)


@app.callback()
def check() -> None:
    """Refuse an environment that holds a misspelt name."""
    check_environment()


@app.command()
def up(
    data: DataFolder = None,
    http_port: Annotated[int | None, typer.Option(help="Port of the HTTP API; default: a free one.")] = None,
    ws_port: Annotated[int | None, typer.Option(help="Port of the gateway; default: a free one.")] = None,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Start three brokers, a Redis Cluster, a replica, several of each process."),
    ] = False,
    synchronous: Annotated[
        bool, typer.Option("--synchronous", help="With --cluster: accept a message once the replica has it, too.")
    ] = False,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="Start only Kafka, PostgreSQL and Valkey.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="NAME", help="Leave out this process, to start it by hand; repeatable."),
    ] = None,
    with_parent: Annotated[bool, typer.Option("--with-parent", help="End when the calling process ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole pipeline on this machine, in the foreground. Ctrl-C ends it; the data stays."""
    from stack.up import run_up

    wanted = {name: port for name, port in (("http", http_port), ("ws", ws_port)) if port is not None}
    asyncio.run(
        run_up(
            data_dir(data),
            is_cluster=cluster,
            is_synchronous=synchronous,
            wanted=wanted,
            without=without or (),
            servers_only=servers_only,
            with_parent=with_parent,
            as_json=as_json,
        )
    )


@app.command()
def status(data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show the processes of a stack on this machine. Exit code 0 only when all are ready."""
    from stack.status import inspect, show

    found = asyncio.run(inspect(find_folder(data)))
    print(json.dumps(found)) if as_json else show(found)
    raise typer.Exit(0 if found["state"] == "ready" else 1)


@app.command()
def down(data: DataFolder = None) -> None:
    """End a stack on this machine; the data stays."""
    from stack.status import down as end

    end(find_folder(data))


@app.command()
def promote(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Let the replica of a cluster on this machine take the place of its primary, which is stopped and kept aside.

    What the replica has not received is gone from PostgreSQL: then run `millrace recover`.
    """
    from stack.promotion import Promotion

    promotion = Promotion.of(find_folder(data))
    if not yes:
        if not sys.stdin.isatty():
            raise OperatorError("the primary is stopped, and its replica takes its place: add --yes to do it")
        typer.confirm("The primary is stopped, and its replica takes its place. Go on?", abort=True, err=True)
    kept = promotion.carry_out()
    text = f"the replica is the primary; the folder of the former one is {kept}; now run millrace recover"
    print_result({"kept": str(kept)}, text, as_json=as_json)


@app.command()
def logs(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A process, such as gateway; default: all.")
    ] = None,
    data: DataFolder = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("-n", help="Number of past lines to print.", min=0)] = 50,
) -> None:
    """Print the logs of a stack on this machine."""
    from cli.logs import logs as show

    show(find_folder(data), name, follow=follow, lines=lines)


@app.command()
def token(
    user: Annotated[str, typer.Argument(metavar="USER", help="1-64 of A-Z a-z 0-9 _ . : -")],
    ttl: Annotated[str, typer.Option(help="Validity: 30m, 1h, 7d.")] = "1h",
    data: Data = None,
) -> None:
    """Print a token for USER, signed with the secret of the stack."""
    from cli.durations import option_seconds

    ttl_s = option_seconds("--ttl", ttl)
    print(find_target(data, Server.SECRET).token(user, ttl_s=ttl_s))


@app.command()
def env(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A process that `millrace up --without` left out; it takes its place."),
    ] = None,
    servers: Annotated[bool, typer.Option("--servers", help="Print only the settings of processes.")] = False,
    clients: Annotated[
        bool, typer.Option("--clients", help="Print only API, WS and the tokens ALICE and BOB.")
    ] = False,
    as_dotenv: Annotated[bool, typer.Option("--dotenv", help="Print a .env file, for a debugger.")] = False,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Print the variables of a stack on this machine, for a shell: eval "$(millrace env)".

    Then `python -m gateway` starts a gateway beside the stack, with free ports.
    """
    from cli.environment import dotenv, exported, for_clients, for_process

    stack = running_stack(find_folder(data).path)
    print(f"stack: {shown_path(stack.data)}", file=sys.stderr)
    variables = {} if servers else for_clients(stack)
    variables |= {} if clients else for_process(stack, name)
    print(json.dumps(variables, indent=2) if as_json else (dotenv if as_dotenv else exported)(variables).rstrip())


@app.command()
def setup(
    replication: Annotated[
        int | None, typer.Option(help="Replication factor instead of the declared one; 1 for a single broker.", min=1)
    ] = None,
    data: Data = None,
) -> None:
    """Migrate the database, give its roles their rights, and apply the topics. It needs the database's owner."""
    from stack.setup import apply_topics, prepare_database

    target = find_target(data, Server.POSTGRES, Server.KAFKA)

    async def prepare() -> list[str]:
        if trouble := await prepare_database(target.owner_dsn):
            print(trouble, file=sys.stderr)
        return await apply_topics(target.kafka, replication or topics.default_replication(target))

    for line in run(prepare()):
        print(line)


def main() -> None:
    """Run the command; print an expected error as one line, without a traceback."""
    configure_command()
    buffer_output()
    try:
        app()
    except (BadSettings, OperatorError, StackError) as exc:
        print(f"millrace: {visible_lines(str(exc))}", file=sys.stderr)
        sys.exit(1)
    except MillraceError as exc:
        print(f"millrace: {visible_lines(explain(exc))}", file=sys.stderr)
        sys.exit(1)
    except OSError as exc:
        print(f"millrace: {_explain(exc)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _explain(exc: OSError) -> str:
    trouble = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror or str(exc) or type(exc).__name__
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{trouble}: make room on the disk, or choose another folder with --data"
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{trouble}: run as the user who owns it, or choose another folder with --data"
    return trouble


if __name__ == "__main__":
    main()
