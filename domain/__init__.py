"""Rules and ports, by subject. Pure: nothing here does I/O."""
