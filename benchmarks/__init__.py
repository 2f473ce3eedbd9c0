"""How fast bpfmatrix is, beside a bare QEMU and its peers: `nox -s bench`, docs/performance.md."""
