/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Map types that came with 5.16, 6.1 and 6.9. On older kernels, only the programs that use them
 * fail. */
#include "common.h"

#ifndef BPF_F_MMAPABLE
#define BPF_F_MMAPABLE (1U << 10)
#endif
#define MAP_TYPE_BLOOM_FILTER 30
#define MAP_TYPE_USER_RINGBUF 31
#define MAP_TYPE_ARENA	      33

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} shared SEC(".maps");

struct {
	__uint(type, MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 100);
	__type(value, __u32);
} bloom SEC(".maps");

struct {
	__uint(type, MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} from_user SEC(".maps");

struct {
	__uint(type, MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
} pages SEC(".maps");

static __always_inline void count(__u32 key)
{
	__u64 *value = bpf_map_lookup_elem(&shared, &key);

	if (value)
		*value += 1;
}

SEC("raw_tp/sys_enter")
int with_array(void *ctx)
{
	count(0);
	return 0;
}

SEC("raw_tp/sys_enter")
int with_bloom_filter(void *ctx)
{
	__u32 value = 1;

	count(1);
	return bpf_map_push_elem(&bloom, &value, 0);
}

static long ignore_sample(void *data, void *ctx)
{
	return 0;
}

SEC("raw_tp/sys_enter")
int with_user_ringbuf(void *ctx)
{
	count(2);
	return bpf_user_ringbuf_drain(&from_user, ignore_sample, 0, 0);
}

SEC("syscall")
int with_arena(void *ctx)
{
	volatile __u64 map = (__u64)&pages;

	return map == 0;
}
