"""`invoke debug`: a kernel under gdb, with its symbols and its source.

session    the machine that waits for gdb, gdb, and the tests, side by side
options    what a user asks of it
gdb        gdb as a program: which one, and the files that it is started with
in_gdb     the commands `bpf-progs`, `bpf-maps` and `bpf-insn`, which run within gdb
insn       eBPF instructions as text
names      the names of a kernel's functions, for a kernel without a vmlinux with DWARF
vscode     a launch configuration for an editor

Which vmlinux and which source tree belong to a kernel is in `bpfmatrix.kernels.symbols`.
"""
