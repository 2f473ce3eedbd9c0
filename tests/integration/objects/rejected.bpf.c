/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A program that every verifier rejects, and one that uses the same map and loads. */
#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

SEC("raw_tp/sys_enter")
int unchecked(void *ctx)
{
	__u32 key = 1;
	__u64 *count = bpf_map_lookup_elem(&counts, &key);

	*count += 1;
	return 0;
}

SEC("raw_tp/sys_enter")
int checked(void *ctx)
{
	__u32 key = 1;
	__u64 *count = bpf_map_lookup_elem(&counts, &key);

	if (count)
		*count += 1;
	return 0;
}
