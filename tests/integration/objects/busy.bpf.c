/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Programs that keep their processor busy for five seconds. bpf_loop needs Linux 5.17. */
#include "common.h"

#define SECONDS 5
#define MOST_ROUNDS (1 << 23) /* BPF_MAX_LOOPS of the kernel's kernel/bpf/bpf_iter.c */

static long inner(__u32 index, void *until)
{
	return bpf_ktime_get_ns() > *(__u64 *)until;
}

static long outer(__u32 index, void *until)
{
	bpf_loop(MOST_ROUNDS, inner, until, 0);
	return bpf_ktime_get_ns() > *(__u64 *)until;
}

static int be_busy(void)
{
	__u64 until = bpf_ktime_get_ns() + SECONDS * 1000000000ULL;

	bpf_loop(MOST_ROUNDS, outer, &until, 0);
	return 0;
}

SEC("socket")
int busy(void *context)
{
	return be_busy();
}

int calls;

/* When it is attached, the next system calls take that long, on whatever processor they are made: that
 * which attaches or detaches it is one of them.
 */
SEC("raw_tp/sys_enter")
int busy_once(void *context)
{
	return calls++ < 4 ? be_busy() : 0;
}
