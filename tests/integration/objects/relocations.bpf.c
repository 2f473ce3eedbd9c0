/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* CO-RE relocations for what no kernel has, with and without a check that the field exists. */
#include "common.h"
#include <bpf/bpf_core_read.h>

struct inner {
	int nowhere;
} KERNEL;

struct task_struct {
	int pid;
	struct inner there_is_no_such_field;
} KERNEL;

struct there_is_no_such_type {
	int field;
} KERNEL;

SEC("raw_tp/sys_enter")
int missing_field(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, there_is_no_such_field.nowhere);
}

SEC("raw_tp/sys_enter")
int missing_type(void *ctx)
{
	return bpf_core_type_size(struct there_is_no_such_type);
}

SEC("raw_tp/sys_enter")
int checked_field(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (bpf_core_field_exists(task->there_is_no_such_field))
		return BPF_CORE_READ(task, there_is_no_such_field.nowhere);
	return BPF_CORE_READ(task, pid);
}
