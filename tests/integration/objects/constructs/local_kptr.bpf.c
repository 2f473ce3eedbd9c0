/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A map with a pointer to a type of the program's own (6.3 and later). No kernel has a type of this
 * name: a pointer to a kernel type follows other rules. */
#include "../common.h"

struct own_node {
	long value;
};

struct stash {
	struct own_node __attribute__((btf_type_tag("kptr"))) * node;
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
	struct own_node *node;

	if (!stash)
		return 0;
	node = bpf_obj_new_impl(__builtin_btf_type_id(*(struct own_node *)0, 0), 0);
	if (!node)
		return 0;
	node = bpf_kptr_xchg(&stash->node, node);
	if (node)
		bpf_obj_drop_impl(node, 0);
	return 0;
}
