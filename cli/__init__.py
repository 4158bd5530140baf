"""The ``millrace`` command: one file for each noun."""
