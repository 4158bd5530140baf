"""Watch: the ``millrace`` command. Starts the other parts as processes and looks at them from outside."""
