"""Benchmarks of bpfmatrix, a bare QEMU and a peer: `nox -s bench` writes docs/performance.md."""
