/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Names that are not ASCII, which C allows, and names that are longer than the kernel keeps. */
#include "common.h"

SEC("raw_tp/sys_enter")
int grüße(void *ctx)
{
	return 0;
}

SEC("raw_tp/sys_enter")
int a_name_that_is_longer_than_the_fifteen_bytes_that_the_kernel_keeps(void *ctx)
{
	return 0;
}
