"""Verifying the promise: a load on a running stack, faults in the middle of it, and a verdict afterwards."""
