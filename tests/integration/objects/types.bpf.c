/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Types of programs that came with 5.14 and 6.4, and a section that tells none. */
#include "common.h"

SEC("syscall")
int of_syscall(void *ctx)
{
	return 0;
}

SEC("netfilter")
int of_netfilter(void *ctx)
{
	return 1;
}

SEC("nothing_that_libbpf_knows")
int of_nothing(void *ctx)
{
	return 0;
}
