// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * Sends a numbered event through a ring buffer each time one thread enters one system call, and
 * counts the events that did not fit. The numbers show user space the order and the losses.
 */
#include "kernel_types.h"
#include "requires.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

REQUIRES_KERNEL("5.8", "BPF_MAP_TYPE_RINGBUF");

const volatile __u32 target_tid;
/* The number of the system call. User space sets it, as it differs between architectures. */
const volatile __u64 target_syscall;

/* Only one thread writes these, so the additions need not be atomic. */
__u64 sequence;
__u64 dropped;

struct numbered_event {
	__u64 sequence;
	__u64 time; /* CLOCK_MONOTONIC, ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} events SEC(".maps");

/* TP_PROTO(struct pt_regs *regs, long id) */
SEC("raw_tp/sys_enter")
int on_sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct numbered_event *event;
	__u64 number;

	if (ctx->args[1] != target_syscall || (__u32)bpf_get_current_pid_tgid() != target_tid)
		return 0;

	number = sequence++;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		dropped++;
		return 0;
	}
	event->sequence = number;
	event->time = bpf_ktime_get_ns();
	bpf_ringbuf_submit(event, 0);
	return 0;
}
