/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs of kinds that not every library knows, as far as they can be attached without knowing
 * their purpose, and one that can't. */
#include "common.h"

#define PROGRAM(section, name, verdict)                                                            \
	SEC(section) int name(void *ctx) { return verdict; }

PROGRAM("ksyscall/getpid", by_ksyscall, 0)
PROGRAM("kprobe.multi/do_nanosl*", by_kprobe_multi, 0)
PROGRAM("tc", by_tc, 0)
PROGRAM("tcx/ingress", by_tcx, 0)
PROGRAM("netfilter", by_netfilter, 1)
PROGRAM("syscall", by_syscall, 0)
