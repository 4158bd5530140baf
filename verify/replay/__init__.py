"""Replay of chat logs through HTTP and WebSocket, with a verdict."""
