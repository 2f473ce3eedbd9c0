// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * Reads what the kernel knows about one thread, only by CO-RE. User space compares that with procfs
 * and system calls: if they differ, a relocation was wrong.
 */
#include "kernel_types.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The thread that is described each time it enters a system call. */
const volatile __u32 target_tid;

struct task_view {
	__u64 start_time; /* of the whole process: CLOCK_BOOTTIME, ns */
	__u32 pid;
	__u32 tgid;
	__u32 ppid;
	__u32 state;
	__s32 static_prio; /* 120 + nice */
	char comm[TASK_COMM_LEN];
	char release[UTS_LEN]; /* of the thread's UTS namespace */
	__u8 filled;	       /* 1 if all fields are set */
	__u8 reserved[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct task_view);
} view SEC(".maps");

static __always_inline __u64 start_time_of(struct task_struct *task)
{
	struct task_struct___before_5_5 *old = (void *)task;

	if (bpf_core_field_exists(task->start_boottime))
		return BPF_CORE_READ(task, start_boottime);
	return BPF_CORE_READ(old, real_start_time);
}

static __always_inline __u32 state_of(struct task_struct *task)
{
	struct task_struct___before_5_14 *old = (void *)task;

	if (bpf_core_field_exists(task->__state))
		return BPF_CORE_READ(task, __state);
	return BPF_CORE_READ(old, state);
}

SEC("raw_tp/sys_enter")
int on_sys_enter(struct bpf_raw_tracepoint_args *ctx __attribute__((unused)))
{
	struct task_struct *task;
	struct task_view *out;
	__u32 zero = 0;

	if ((__u32)bpf_get_current_pid_tgid() != target_tid)
		return 0;
	out = bpf_map_lookup_elem(&view, &zero);
	if (!out)
		return 0;

	task = (struct task_struct *)bpf_get_current_task();
	out->pid = BPF_CORE_READ(task, pid);
	out->tgid = BPF_CORE_READ(task, tgid);
	out->ppid = BPF_CORE_READ(task, real_parent, tgid);
	out->state = state_of(task);
	out->static_prio = BPF_CORE_READ(task, static_prio);
	/* Of the group leader, as in /proc/PID/stat: this thread may have started later. */
	out->start_time = start_time_of(BPF_CORE_READ(task, group_leader));
	BPF_CORE_READ_STR_INTO(&out->comm, task, comm);
	BPF_CORE_READ_STR_INTO(&out->release, task, nsproxy, uts_ns, name.release);
	out->filled = 1;
	return 0;
}
