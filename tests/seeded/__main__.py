"""``python -m tests.seeded MODULE ARG…``: a process of ours, built with the bug that MILLRACE_BUG names."""

from __future__ import annotations

import os
import runpy
import sys

from tests.seeded.registry import ALL

ALL[os.environ["MILLRACE_BUG"]]()
del sys.argv[0]
module = sys.argv[0]
runpy.run_module(module, run_name="__main__", alter_sys=True)
