"""What runs in a guest: the built eBPF objects and test binaries, their checks, and their disk."""
