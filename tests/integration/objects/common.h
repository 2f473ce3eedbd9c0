/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/* Definitions for the objects here. Each object exercises one case of loading. */
#ifndef OBJECTS_COMMON_H
#define OBJECTS_COMMON_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* For a type of the kernel whose fields are read by CO-RE. */
#define KERNEL __attribute__((preserve_access_index))

char LICENSE[] SEC("license") = "GPL";

#endif
