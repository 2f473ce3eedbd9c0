/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Program types that came with 5.14 and 6.4, and a section name that implies no type. */
#include "common.h"

SEC("syscall")
int type_syscall(void *ctx)
{
	return 0;
}

SEC("netfilter")
int type_netfilter(void *ctx)
{
	return 1;
}

SEC("nothing_that_libbpf_knows")
int unknown_type(void *ctx)
{
	return 0;
}
