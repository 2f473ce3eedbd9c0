/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * The fields of kernel structures that the programs here read. A vmlinux.h would have about 150,000
 * lines, for one kernel and one architecture. The order and the size of the fields do not matter:
 * with preserve_access_index, each access is a CO-RE relocation, which the loader resolves against
 * the BTF of the running kernel. CO-RE ignores a suffix after ___ in the name of a type, so
 * task_struct___before_5_5 also stands for task_struct, as it was before that release.
 */
#ifndef BPFMATRIX_KERNEL_TYPES_H
#define BPFMATRIX_KERNEL_TYPES_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define TASK_COMM_LEN 16
#define UTS_LEN	      65 /* __NEW_UTS_LEN + 1 */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct new_utsname {
	char release[UTS_LEN];
};

/* The name is at another offset since 5.11, which removed the reference count in front of it. */
struct uts_namespace {
	struct new_utsname name;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
};

struct task_struct {
	unsigned int __state;
	int static_prio;
	int exit_code;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	__u64 start_boottime;
	char comm[TASK_COMM_LEN];
	struct nsproxy *nsproxy;
};

/* start_boottime was called real_start_time. Both are nanoseconds of CLOCK_BOOTTIME. */
struct task_struct___before_5_5 {
	__u64 real_start_time;
};

/* __state was called state, and was a long. */
struct task_struct___before_5_14 {
	long state;
};

#pragma clang attribute pop

#endif
