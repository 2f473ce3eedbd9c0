"""Finding the release at which an eBPF program, or a test, begins or ceases to work."""
