/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Options of the kernel, in each type that they can have, and libbpf's own ones. */
#include "../common.h"

typedef _Bool flag;

extern const unsigned long CONFIG_HZ __kconfig;
extern flag CONFIG_BPF __kconfig;
extern enum libbpf_tristate CONFIG_BPF_SYSCALL __kconfig;
extern __u64 CONFIG_NR_CPUS __kconfig;
extern char CONFIG_CC_VERSION_TEXT[8] __kconfig;
extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool LINUX_HAS_BPF_COOKIE __kconfig;

SEC("socket")
int number(void *ctx)
{
	return CONFIG_HZ > 1;
}

SEC("socket")
int boolean(void *ctx)
{
	return CONFIG_BPF;
}

SEC("socket")
int tristate(void *ctx)
{
	return CONFIG_BPF_SYSCALL;
}

SEC("socket")
int wide(void *ctx)
{
	return CONFIG_NR_CPUS;
}

SEC("socket")
int text(void *ctx)
{
	return CONFIG_CC_VERSION_TEXT[0];
}

SEC("socket")
int version(void *ctx)
{
	return LINUX_KERNEL_VERSION > 1;
}

SEC("socket")
int cookie(void *ctx)
{
	return LINUX_HAS_BPF_COOKIE;
}
