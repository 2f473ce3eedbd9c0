# SPDX-License-Identifier: Apache-2.0
#
# All work is done in ebpf/Makefile.

.PHONY: all ebpf clean
all: ebpf

ebpf:
	$(MAKE) -C ebpf

clean:
	$(MAKE) -C ebpf clean
