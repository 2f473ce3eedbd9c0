/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A kernel symbol that no kernel has: only the programs that use it can't be loaded. */
#include "../common.h"

struct rq;

/* Not compared with NULL, of which clang knows the result. */
static __always_inline int address(const void *symbol)
{
	return (long)symbol;
}

extern const struct rq no_kernel_has_this __ksym;

static __attribute__((noinline)) int used_here(int more)
{
	return address(&no_kernel_has_this) + more;
}

SEC("raw_tp/sys_enter")
int uses(void *ctx)
{
	return address(&no_kernel_has_this);
}

SEC("raw_tp/sys_enter")
int calls(void *ctx)
{
	return used_here((long)ctx);
}

SEC("raw_tp/sys_enter")
int innocent(void *ctx)
{
	return 0;
}
