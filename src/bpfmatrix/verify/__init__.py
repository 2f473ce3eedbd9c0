"""Loading every program of eBPF objects on every kernel, with no test written."""
