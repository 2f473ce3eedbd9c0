/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A spin lock in a map that has sizes and no types. */
#include "../common.h"

struct value {
	struct bpf_spin_lock lock;
	__u32 pad;
	__u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, sizeof(struct value));
} values SEC(".maps");

SEC("tc")
int locks(void *ctx)
{
	__u32 key = 1;
	struct value *value = bpf_map_lookup_elem(&values, &key);

	if (value) {
		bpf_spin_lock(&value->lock);
		value->count++;
		bpf_spin_unlock(&value->lock);
	}
	return 0;
}
