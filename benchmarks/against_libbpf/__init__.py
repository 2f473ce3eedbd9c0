"""Compares the verdicts of `invoke verify` with those of libbpf alone; README.md says when."""
