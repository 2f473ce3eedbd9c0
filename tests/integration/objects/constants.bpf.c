/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Loads only if the loader sets the constants to the values that are checked: otherwise the
 * verifier finds a path to a null pointer. */
#include "common.h"

const volatile __u32 number = 0;
const volatile __s16 negative = 0;
const volatile _Bool flag = 0;
const volatile char text[8] = "";
const volatile __u16 list[3] = {};
static const volatile __u64 hidden = 0;

/* --map-size gives its size. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
} sized SEC(".maps");

SEC("raw_tp/sys_enter")
int set(void *ctx)
{
	if (number == 42 && negative == -7 && flag && text[0] == 'h' && text[1] == 'i' &&
	    text[2] == 0 && list[0] == 1 && list[1] == 2 && list[2] == 3 &&
	    hidden == 0x1234567890)
		return 0;
	return *(volatile int *)0;
}

SEC("raw_tp/sys_enter")
int with_sized(void *ctx)
{
	__u32 key = 1;

	return bpf_map_lookup_elem(&sized, &key) != 0;
}
