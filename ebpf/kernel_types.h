/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * The few fields of the kernel's structures that the programs here read, in place of a vmlinux.h of
 * some 150,000 lines that is one kernel's and one architecture's. Order and size mean nothing: with
 * preserve_access_index each access is a CO-RE relocation, which the loader resolves against the
 * BTF of the kernel that runs. A suffix after ___ is not part of the type's name for it, so that
 * task_struct___before_5_5 is task_struct too, as it was before that release.
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

/* 5.11 took the reference count from in front of the name away, so that name has moved. */
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

/* real_start_time became start_boottime; its meaning, nanoseconds of CLOCK_BOOTTIME, stayed. */
struct task_struct___before_5_5 {
	__u64 real_start_time;
};

/* state became __state, and narrower. */
struct task_struct___before_5_14 {
	long state;
};

#pragma clang attribute pop

#endif
