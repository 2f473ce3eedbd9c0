// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * Adds up numbers with bpf_loop, which calls a function a number of times that is known only at run
 * time. The verifier checks that function once, however many iterations there are.
 *
 * User space runs sum_range with BPF_PROG_TEST_RUN, so it is not attached to anything.
 */
#include "kernel_types.h"
#include "requires.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

REQUIRES_KERNEL("5.17", "bpf_loop");

/* Input and output: BPF_PROG_TEST_RUN returns the context. */
struct sum_context {
	__u32 iterations; /* in: the iterations to ask for */
	__u32 stop_at;	  /* in: the number at which to stop; it is not added */
	__u64 sum;	  /* out: 0 + 1 + ... */
	__s32 looped; /* out: what bpf_loop returned: the iterations done, or a negative errno */
	__u32 reserved;
};

struct sum_state {
	__u64 sum;
	__u32 stop_at;
};

static long add_index(__u32 index, void *data)
{
	struct sum_state *state = data;

	if (index == state->stop_at)
		return 1;
	state->sum += index;
	return 0;
}

SEC("syscall")
int sum_range(struct sum_context *ctx)
{
	struct sum_state state = {.stop_at = ctx->stop_at};

	/* Only the lower 32 bits are right for an errno: from 6.0 on, the verifier inlines bpf_loop
	 * as code that zero-extends it. */
	ctx->looped = bpf_loop(ctx->iterations, add_index, &state, 0);
	ctx->sum = state.sum;
	return 0;
}
