/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The id of a type, and the value of an enumeration, that no kernel has. */
#include "../common.h"
#include <bpf/bpf_core_read.h>

struct no_kernel_has_this___local {
	int field;
};

enum no_kernel_has_this {
	NO_KERNEL_HAS_THIS = 5,
};

SEC("tc")
int type_id(void *ctx)
{
	return __builtin_btf_type_id(*(struct no_kernel_has_this___local *)0, 1);
}

SEC("tc")
int enum_value(void *ctx)
{
	if (bpf_core_enum_value_exists(enum no_kernel_has_this, NO_KERNEL_HAS_THIS))
		return bpf_core_enum_value(enum no_kernel_has_this, NO_KERNEL_HAS_THIS);
	return 0;
}
