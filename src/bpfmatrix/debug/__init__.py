"""`invoke debug`: a kernel under gdb, with its symbols and its source.

Which vmlinux and which source tree belong to a kernel is in `bpfmatrix.kernels.symbols`.
"""
