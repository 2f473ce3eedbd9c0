"""Completion of command lines in bash, zsh and fish, for `bpfmatrix` and for invoke."""
