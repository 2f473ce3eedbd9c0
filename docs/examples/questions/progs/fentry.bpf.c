// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/* Is attached to a function that not every kernel has. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("fentry/do_renameat2")
int on_rename(void *ctx)
{
	return 0;
}
