/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Iterators, one of them over the elements of a map. */
#include "../common.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} elements SEC(".maps");

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	void *key;
} __attribute__((preserve_access_index));

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __attribute__((preserve_access_index));

struct bpf_iter__task_vma {
	struct bpf_iter_meta *meta;
	struct vm_area_struct *vma;
} __attribute__((preserve_access_index));

SEC("iter/bpf_map_elem")
int of_map(struct bpf_iter__bpf_map_elem *ctx)
{
	void *key = ctx->key;

	if (key)
		bpf_seq_write(ctx->meta->seq, key, 4);
	return 0;
}

SEC("iter/task")
int of_tasks(struct bpf_iter__task *ctx)
{
	return ctx->task == 0;
}

SEC("iter/task_vma")
int of_memory(struct bpf_iter__task_vma *ctx)
{
	return ctx->vma == 0;
}
