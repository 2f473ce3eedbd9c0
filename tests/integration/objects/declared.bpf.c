/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Declares the oldest kernel that it can run on, in the format of ebpf/requires.h. */
#include "common.h"

static const char requires[] __attribute__((section(".bpfmatrix.requires"), used)) = "6.12 a test";

SEC("raw_tp/sys_enter")
int declared(void *ctx)
{
	return 0;
}
