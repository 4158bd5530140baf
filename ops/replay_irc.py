def replay_irc() -> None:
    """."""
