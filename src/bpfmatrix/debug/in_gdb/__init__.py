"""What `invoke debug` adds to gdb: its stops, and commands that read the verifier's data.

gdb's own Python runs this package, from `load.py`. It reads the kernel's memory by the types in its
DWARF. It uses few types, so that it works with every release from 5.4 on.
"""
