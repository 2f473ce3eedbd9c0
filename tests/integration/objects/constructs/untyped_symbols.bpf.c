/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel symbols without types: a weak one that no kernel has, and one whose address is 0. */
#include "../common.h"

extern const int no_kernel_has_this __ksym __weak;
extern const void __per_cpu_start __ksym;

/* Not compared with NULL, of which clang knows the result. */
static __always_inline int address(const void *symbol)
{
	return (long)symbol;
}

SEC("socket")
int weak(void *ctx)
{
	return &no_kernel_has_this != 0;
}

SEC("raw_tp/sys_enter")
int zero(void *ctx)
{
	return address(&__per_cpu_start);
}
