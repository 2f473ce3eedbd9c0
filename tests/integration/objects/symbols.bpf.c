/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A kernel symbol that exists, and one that does not. */
#include "common.h"

extern const void init_task __ksym;
extern void there_is_no_such_symbol __ksym;

SEC("raw_tp/sys_enter")
int existing_symbol(void *ctx)
{
	return (__u64)&init_task >> 32;
}

SEC("raw_tp/sys_enter")
int missing_symbol(void *ctx)
{
	return (__u64)&there_is_no_such_symbol >> 32;
}
