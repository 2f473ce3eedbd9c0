// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * Reports every task that is forked, executes a file, or exits.
 *
 * It uses raw tracepoints. Their arguments are those of the kernel's TP_PROTO, and the arguments
 * used here are the same in every release from 4.17 on. The records of plain tracepoints have
 * changed: comm of sched_process_fork has become a __data_loc, and sched_process_exit has new
 * fields.
 */
#include "kernel_types.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum task_event_kind {
	TASK_FORKED = 1,
	TASK_EXECUTED = 2,
	TASK_EXITED = 3,
};

struct task_event {
	__u64 time; /* CLOCK_MONOTONIC, ns: to sort the events of several CPUs */
	__u32 kind;
	__u32 pid; /* the thread id; equals tgid in the first thread of a process */
	__u32 tgid;
	__u32 ppid;	 /* the parent's tgid */
	__s32 exit_code; /* encoded as in wait(2); only for TASK_EXITED */
	char comm[TASK_COMM_LEN];
	__u32 reserved;
};

/* A ring buffer would do, but 5.4 has none. */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

static __always_inline int report(void *ctx, __u32 kind, struct task_struct *task)
{
	struct task_event event = {
		.time = bpf_ktime_get_ns(),
		.kind = kind,
		.pid = BPF_CORE_READ(task, pid),
		.tgid = BPF_CORE_READ(task, tgid),
		.ppid = BPF_CORE_READ(task, real_parent, tgid),
	};

	/* Before a task exits, its exit_code is not a status. */
	if (kind == TASK_EXITED)
		event.exit_code = BPF_CORE_READ(task, exit_code);
	BPF_CORE_READ_STR_INTO(&event.comm, task, comm);
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return 0;
}

/* TP_PROTO(struct task_struct *parent, struct task_struct *child) */
SEC("raw_tp/sched_process_fork")
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	return report(ctx, TASK_FORKED, (struct task_struct *)ctx->args[1]);
}

/* TP_PROTO(struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm) */
SEC("raw_tp/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	return report(ctx, TASK_EXECUTED, (struct task_struct *)ctx->args[0]);
}

/* TP_PROTO(struct task_struct *task, ...): once for each thread, after exit_code has been set. */
SEC("raw_tp/sched_process_exit")
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	return report(ctx, TASK_EXITED, (struct task_struct *)ctx->args[0]);
}
