/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Global variables in sections of their own, one of them a spin lock. */
#include "../common.h"

int counter SEC(".bss.counters");
__attribute__((visibility("hidden"))) int hidden SEC(".bss.hidden");
int initial SEC(".data.initial") = 3;
__attribute__((visibility("hidden"))) struct bpf_spin_lock lock SEC(".data.lock");

SEC("socket")
int counts(void *ctx)
{
	return counter++ + hidden++ + initial;
}

SEC("tc")
int locks(void *ctx)
{
	bpf_spin_lock(&lock);
	bpf_spin_unlock(&lock);
	return 0;
}
