"""HTTP servers whose clients cannot exhaust them: the protocol, its limits, and the server around it."""
