"""Twins of the adapters, in memory: they pass the same contract tests, and tests of whole flows use them."""
