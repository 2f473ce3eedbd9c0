/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A pointer to a type whose name the kernel has too, for another type: from 6.1 on, the kernel
 * refuses the BTF. */
#include "../common.h"

struct node {
	long value;
};

struct stash {
	struct node __attribute__((btf_type_tag("kptr"))) * node;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct stash);
} stashes SEC(".maps");

extern void *bpf_obj_new_impl(__u64 type, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *object, void *meta) __ksym;

SEC("tc")
int keeps(void *ctx)
{
	int key = 0;
	struct stash *stash = bpf_map_lookup_elem(&stashes, &key);
	struct node *node;

	if (!stash)
		return 0;
	node = bpf_obj_new_impl(__builtin_btf_type_id(*(struct node *)0, 0), 0);
	if (!node)
		return 0;
	node = bpf_kptr_xchg(&stash->node, node);
	if (node)
		bpf_obj_drop_impl(node, 0);
	return 0;
}
