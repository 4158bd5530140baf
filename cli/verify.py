"""``millrace verify``: break a stack under real clients, and tell whether the promise was kept."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cli.command import AsJson, refuse_environment


def verify(
    messages: Annotated[int, typer.Option(help="Number of messages to send.", min=20, max=1_000_000)] = 2000,
    faults: Annotated[
        str,
        typer.Option(
            help="Faults: random (a run of two minutes or more, at least five faults), none, or names separated by"
            " commas; `--faults list` shows them."
        ),
    ] = "random",
    seed: Annotated[int, typer.Option(help="Seed of the run; the same seed makes the same run.")] = 1,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Most messages a second; default: 100, on a cluster 40. Fewer where the faults need more time.",
            min=1,
            max=2000,
        ),
    ] = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="Use a cluster: three brokers, three gateways, …")] = False,
    against: Annotated[
        str | None,
        typer.Option(help="HTTP_URL,WS_URL of a stack elsewhere; nothing is broken."),
    ] = None,
    given: Annotated[
        bool,
        typer.Option(
            "--given",
            help="Use the servers that MILLRACE_PG__DSN, … name, which must hold nothing; none of them is broken.",
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the data of the stack; always kept unless the promise was.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a stack, send and receive while faults hit it, and judge. Exit code 1: the promise was broken; 2: it was
    not put to the test, since no fault took effect."""
    from verify.errors import run_to_end
    from verify.given_servers import given_roles
    from verify.planning import NONE, list_faults, plan_faults
    from verify.report import EXIT_CODES, show
    from verify.trial import Trial, front_doors

    if faults == "list":
        list_faults()
        return
    if given and against is not None:
        raise typer.BadParameter("must be left out with --against", param_hint="--given")
    if against is None and not given:
        refuse_environment(
            "verify starts a stack of its own and breaks it", "or use --given, or --against HTTP_URL,WS_URL"
        )
    roles = given_roles() if given else frozenset[str]()
    seconds = messages / (rate or (40.0 if cluster else 100.0))
    planned = plan_faults(faults if against is None else NONE, seed, seconds, is_cluster=cluster, given=roles)
    trial = Trial(
        messages=messages, seed=seed, cluster=cluster, keep=keep, is_given=given, quiet=as_json, faults=planned
    )
    report = run_to_end(trial.run() if against is None else trial.run_against(*front_doors(against)))
    print(json.dumps(report)) if as_json else show(report)
    raise typer.Exit(EXIT_CODES[report["verdict"]])
