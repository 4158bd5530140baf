"""``millrace verify``: break a stack under real clients, and tell whether the promise was kept."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cli.command import AsJson, refuse_environment


def verify(
    messages: Annotated[int, typer.Option(help="Number of messages to send.", min=20, max=1_000_000)] = 2000,
    faults: Annotated[
        str, typer.Option(help="Faults: random, none, or names separated by commas; `--faults list` shows them.")
    ] = "random",
    seed: Annotated[int, typer.Option(help="Seed of the run; the same seed makes the same run.")] = 1,
    rate: Annotated[
        float | None, typer.Option(help="Messages a second; default: 100, on a cluster 40.", min=1, max=2000)
    ] = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="Use a cluster: three brokers, three gateways, …")] = False,
    against: Annotated[
        str | None,
        typer.Option(help="HTTP_URL,WS_URL of a stack elsewhere; nothing is broken."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the data of the stack; always kept when the promise was broken.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a stack, send and receive while faults hit it, and judge. Exit code 1: the promise was broken."""
    from verify.errors import run_to_end
    from verify.report import show
    from verify.trial import Trial, front_doors, planned_faults, print_faults

    if faults == "list":
        print_faults()
        return
    if against is None:
        refuse_environment("verify starts a stack of its own and breaks it", "or use --against HTTP_URL,WS_URL")
    trial = Trial(
        messages=messages,
        rate=rate or (40.0 if cluster else 100.0),
        seed=seed,
        cluster=cluster,
        keep=keep,
        quiet=as_json,
    )
    if against is not None:
        report = run_to_end(trial.run_against(*front_doors(against)))
    else:
        trial.plan = planned_faults(faults, seed, trial.seconds, cluster=cluster)
        report = run_to_end(trial.run())
    print(json.dumps(report)) if as_json else show(report)
    if not report["kept"]:
        raise typer.Exit(1)
