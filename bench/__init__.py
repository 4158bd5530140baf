"""Benchmarks: each figure beside a reference of the same run. docs/performance.md explains them."""
