"""``millrace verify``: break a stack under real clients, and say whether the promise was kept."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def verify(
    messages: Annotated[int, typer.Option(help="How many messages are sent.", min=20, max=1_000_000)] = 2000,
    faults: Annotated[
        str, typer.Option(help="random, none, or names with commas; --faults list shows them.")
    ] = "random",
    seed: Annotated[int, typer.Option(help="The same seed makes the same run.")] = 1,
    rate: Annotated[
        float | None, typer.Option(help="Messages a second; default: 100, on a cluster 40.", min=1, max=2000)
    ] = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="Against three brokers, three gateways, …")] = False,
    against: Annotated[
        str | None,
        typer.Option(help="A stack that runs elsewhere: its HTTP and WebSocket URLs, with a comma; nothing is broken."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the stack's data; kept anyway when the promise broke.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Start a stack, send, listen, break it on the way, judge what came out. Exits 1 when the promise was broken."""
    from verify.errors import run_to_end
    from verify.report import show
    from verify.trial import Trial, chosen, front_doors, show_faults

    if faults == "list":
        show_faults()
        return
    trial = Trial(
        messages=messages,
        rate=rate or (40.0 if cluster else 100.0),
        seed=seed,
        cluster=cluster,
        keep=keep,
        quiet=as_json,
    )
    if against is not None:
        said = run_to_end(trial.run_against(*front_doors(against)))
    else:
        trial.plan = chosen(faults, seed, trial.seconds, cluster=cluster)
        said = run_to_end(trial.run())
    print(json.dumps(said)) if as_json else show(said)
    if not said["kept"]:
        raise typer.Exit(1)
