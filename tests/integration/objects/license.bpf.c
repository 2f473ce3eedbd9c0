/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Calls a helper that only programs with a GPL-compatible license may call. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("raw_tp/sys_enter")
int proprietary(void *ctx)
{
	bpf_printk("no");
	return 0;
}

char LICENSE[] SEC("license") = "Proprietary";
