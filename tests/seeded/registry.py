"""Every patch by its name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.seeded.bugs import BUGS, Patch
from tests.seeded.hidden import HIDDEN, STUCK

ALL: Mapping[str, Patch] = {**BUGS, **STUCK, **{name: patch for name, (patch, _) in HIDDEN.items()}}
