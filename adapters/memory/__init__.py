"""Twins of the adapters, in memory: held to the same contract tests, used by tests of whole flows."""
