"""A kernel under gdb: its symbols and its source, the machine that waits for gdb, and both at once.

elf        what a kernel's ELF file tells: its build id, its symbols
symbols    which vmlinux and which source tree belong to a kernel, fetched where that is possible
names      a kernel's functions by name alone, where there is no vmlinux with DWARF
gdb        gdb as a program: which one, and the files that it is started with
session    `invoke debug`: machine, gdb and tests side by side
trace      the kernel's call traces, with a file and a line for each function
in_gdb     what runs within gdb: `bpf-progs`, `bpf-maps`, `bpf-insn`
vscode     a launch configuration for an editor
insn       eBPF instructions as text
"""
