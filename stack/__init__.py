"""A stack on one machine: its servers and processes, supervised, with their data in one folder."""
