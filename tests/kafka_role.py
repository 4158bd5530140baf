"""``python -m tests.kafka_role MODULE ARG…``: a process of ours that connects to Kafka with the account of its role."""

from __future__ import annotations

import os
import runpy
import sys

if __name__ == "__main__":
    module, *arguments = sys.argv[1:]
    os.environ["MILLRACE_KAFKA__SASL_USER"] = f"millrace-{arguments[0] if module == 'streams' else module}"
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
