/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* An arena (6.9 and later), and memory from it. */
#include "../common.h"

#define __arena __attribute__((address_space(1)))

struct {
	__uint(type, 33);	     // BPF_MAP_TYPE_ARENA
	__uint(map_flags, 1U << 10); // BPF_F_MMAPABLE
	__uint(max_entries, 10);
} arena SEC(".maps");

void __arena *bpf_arena_alloc_pages(void *map, void __arena *address, __u32 pages, int node,
				    __u64 flags) __ksym __weak;

SEC("syscall")
int allocates(void *ctx)
{
	int __arena *page = bpf_arena_alloc_pages(&arena, 0, 1, -1, 0);

	if (!page)
		return 1;
	*page = 7;
	return *page;
}
