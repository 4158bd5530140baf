"""Proof of the promise: real clients on a stack with injected faults, and a verdict on what they were shown."""
