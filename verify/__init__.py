"""Proving the promise: real clients, a stack that is being broken, and a verdict on what they were shown."""
