"""``python -m bench.attacker NAME``: one attack, from another process than the honest users'.

The hostile user's machine is not the servers'. So this process takes the cores only as far as nobody else needs them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial

from adapters.auth import issue
from verify.attacks import ATTACKS, Doors

_TTL_S = 3600
_NICE = 19


async def run(name: str) -> None:
    """Attack until the process is killed. The environment has the doors, and the secret that makes tokens."""
    token = partial(issue, os.environ["ATTACK_SECRET"], ttl_s=_TTL_S)
    doors = Doors(
        os.environ["ATTACK_HTTP"],
        os.environ["ATTACK_WS"],
        token,
        user=os.environ["ATTACK_USER"],
        history=os.environ["ATTACK_HISTORY"],
    )
    os.nice(_NICE)
    print("ready", flush=True)
    await ATTACKS[name](doors)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
