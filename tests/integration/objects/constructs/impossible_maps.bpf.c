/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Maps of impossible sizes, beside a program that uses none. */
#include "../common.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 0xfffffff0);
	__type(key, __u32);
	__uint(value_size, 0x7fffff00);
} huge SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 12345);
	__uint(map_flags, 1U << 31);
	__type(key, __u32);
	__type(value, __u64);
} odd_flags SEC(".maps");

SEC("socket")
int looks_up(void *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&huge, &key) != 0;
}

SEC("socket")
int odd(void *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&odd_flags, &key) != 0;
}

SEC("socket")
int innocent(void *ctx)
{
	return 0;
}
