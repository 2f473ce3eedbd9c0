/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/* What the objects here share: each of them exercises one thing that loading may come to. */
#ifndef OBJECTS_COMMON_H
#define OBJECTS_COMMON_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* A kernel's type or symbol that is read by CO-RE. */
#define KERNEL __attribute__((preserve_access_index))

char LICENSE[] SEC("license") = "GPL";

#endif
