/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* An option that no kernel has: only the program that reads it can't be loaded. */
#include "../common.h"

extern int CONFIG_NO_KERNEL_HAS_THIS __kconfig;

SEC("socket")
int reads(void *ctx)
{
	return CONFIG_NO_KERNEL_HAS_THIS;
}

SEC("socket")
int innocent(void *ctx)
{
	return 0;
}
