"""From a failed test to the line of C: the eBPF programs that it could not load, and why."""
