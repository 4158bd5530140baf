"""Registry of every bug; importing this fills it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.seeded import in_gateway, in_ingest, in_streams  # noqa: F401 - each registers its own
from tests.seeded.base import BUGS, Patch
from tests.seeded.hidden import HIDDEN, STUCK

ALL: Mapping[str, Patch] = {**BUGS, **STUCK, **{name: patch for name, (patch, _) in HIDDEN.items()}}
