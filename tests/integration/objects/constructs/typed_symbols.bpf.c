/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel symbols with types, as the kernel's BTF has them. */
#include "../common.h"

struct rq {
	int cpu;
} __attribute__((preserve_access_index));

extern const struct rq runqueues __ksym;
extern const struct rq no_kernel_has_this __ksym __weak;
extern const int bpf_prog_active __ksym;

SEC("raw_tp/sys_enter")
int of_struct(void *ctx)
{
	struct rq *queue = bpf_per_cpu_ptr(&runqueues, 0);

	return queue ? queue->cpu : 0;
}

SEC("raw_tp/sys_enter")
int of_int(void *ctx)
{
	return *(int *)bpf_this_cpu_ptr(&bpf_prog_active);
}

SEC("raw_tp/sys_enter")
int innocent(void *ctx)
{
	return 0;
}

SEC("raw_tp/sys_enter")
int weak(void *ctx)
{
	return &no_kernel_has_this != 0;
}
