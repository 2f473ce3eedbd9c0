/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A scheduler (6.12 and later) that leaves everything to the kernel. */
#include "../common.h"

struct sched_ext_ops {
	void (*exit)(void *info);
	char name[128];
};

SEC("struct_ops/exit")
int scheduler_exit(unsigned long long *ctx)
{
	return 0;
}

SEC(".struct_ops.link")
struct sched_ext_ops scheduler = {
	.exit = (void *)scheduler_exit,
	.name = "idle",
};
