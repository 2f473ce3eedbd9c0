"""A shell, or one command, in a guest: the workload of `invoke shell`."""
