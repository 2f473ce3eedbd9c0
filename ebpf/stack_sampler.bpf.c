// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * Counts kernel and user stacks per process, as a sampling profiler does. User space opens a perf
 * event on each CPU and attaches on_sample to it. It can read counts and stacks at any time.
 */
#include "kernel_types.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_FRAMES 127 /* the default of kernel.perf_event_max_stack, and the most that loads */

struct stack_key {
	__u32 tgid;
	/* A key of the map stacks, or a negative errno: -EFAULT if there is no such stack. */
	__s32 kernel_stack;
	__s32 user_stack;
};

struct stack_count {
	__u64 samples;
	char comm[TASK_COMM_LEN];
};

enum sample_counter {
	SAMPLES_SEEN,
	SAMPLES_LOST, /* the map counts is full, or the bucket in it was locked */
	SAMPLE_COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 4096);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, MAX_FRAMES * sizeof(__u64));
} stacks SEC(".maps");

/* Preallocated (the default), as a perf event can interrupt the kernel's memory allocator. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct stack_key);
	__type(value, struct stack_count);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SAMPLE_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} sample_counters SEC(".maps");

static __always_inline void count_sample(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&sample_counters, &counter);

	if (value)
		*value += 1;
}

SEC("perf_event")
int on_sample(struct bpf_perf_event_data *ctx)
{
	struct stack_count first = {};
	struct stack_key key = {.tgid = bpf_get_current_pid_tgid() >> 32};
	struct stack_count *count;

	/* Leave out the idle task. */
	if (!key.tgid)
		return 0;

	count_sample(SAMPLES_SEEN);
	key.kernel_stack = bpf_get_stackid(ctx, &stacks, 0);
	key.user_stack = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);

	count = bpf_map_lookup_elem(&counts, &key);
	if (!count) {
		first.samples = 1;
		bpf_get_current_comm(first.comm, sizeof(first.comm));
		if (!bpf_map_update_elem(&counts, &key, &first, BPF_NOEXIST))
			return 0;
		/* Another CPU may have added the entry first. */
		count = bpf_map_lookup_elem(&counts, &key);
		if (!count) {
			count_sample(SAMPLES_LOST);
			return 0;
		}
	}
	__sync_fetch_and_add(&count->samples, 1);
	return 0;
}
