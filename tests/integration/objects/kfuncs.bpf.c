/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A kfunc that came with 6.2, and one that does not exist, called with and without a check. */
#include "common.h"

/* Newer versions of libbpf define it. */
#ifndef bpf_ksym_exists
#define bpf_ksym_exists(symbol) (!!symbol)
#endif

struct task_struct {
	int pid;
} KERNEL;

extern struct task_struct *bpf_task_from_pid(int pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;
extern void there_is_no_such_kfunc(void) __ksym __weak;

SEC("tp_btf/task_newtask")
int with_kfunc(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(1);

	if (task)
		bpf_task_release(task);
	return 0;
}

SEC("tp_btf/task_newtask")
int checked_kfunc(void *ctx)
{
	if (bpf_ksym_exists(there_is_no_such_kfunc))
		there_is_no_such_kfunc();
	return 0;
}

SEC("tp_btf/task_newtask")
int unchecked_kfunc(void *ctx)
{
	there_is_no_such_kfunc();
	return 0;
}
