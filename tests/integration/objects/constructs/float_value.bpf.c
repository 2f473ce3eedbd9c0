/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A map whose value has a double: kernels before 5.13 have no such type in BTF. */
#include "../common.h"

struct reading {
	double ratio;
	__u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct reading);
} readings SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_getpid")
int counts(void *ctx)
{
	__u32 key = 1;
	struct reading *reading = bpf_map_lookup_elem(&readings, &key);

	if (reading)
		reading->count++;
	return 0;
}
