"""One machine: the servers and processes of a stack, supervised, with their data under one folder."""
