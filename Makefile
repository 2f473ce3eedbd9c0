# SPDX-License-Identifier: Apache-2.0
#
# For those who type make: everything is done in ebpf/Makefile.

.PHONY: all ebpf clean
all: ebpf

ebpf:
	$(MAKE) -C ebpf

clean:
	$(MAKE) -C ebpf clean
