"""The machine: QEMU, its parts, its channels and protocol, warm templates, the accelerator."""
