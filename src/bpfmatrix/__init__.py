"""Load and test eBPF on many Linux kernels, each in a throw-away QEMU machine."""

__version__ = "0.1.0"
