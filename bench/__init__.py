"""Measuring: each figure beside a reference of the same run. docs/performance.md says what each means."""
