/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A map in the format of libbpf before 1.0 and of aya. This object is compiled without BTF. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct definition {
	__u32 type, key_size, value_size, max_entries, map_flags, id, pinning;
};

struct definition SEC("maps") counts = {BPF_MAP_TYPE_ARRAY, 4, 8, 4, 0, 0, 0};

SEC("kprobe")
int counted(void *ctx)
{
	__u32 key = 1;
	__u64 *count = bpf_map_lookup_elem(&counts, &key);

	if (count)
		*count += 1;
	return 0;
}

SEC("kprobe")
int unchecked(void *ctx)
{
	__u32 key = 1;
	__u64 *count = bpf_map_lookup_elem(&counts, &key);

	*count += 1;
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
