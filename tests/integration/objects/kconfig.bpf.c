/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Variables that a loader sets to the version and the options of the running kernel. */
#include "common.h"

extern unsigned int LINUX_KERNEL_VERSION __kconfig;
extern int CONFIG_HZ __kconfig;
extern _Bool CONFIG_BPF_SYSCALL __kconfig;
extern _Bool CONFIG_THERE_IS_NO_SUCH_OPTION __kconfig __weak;
extern int CONFIG_THERE_IS_NO_SUCH_NUMBER __kconfig __weak;

SEC("raw_tp/sys_enter")
int version(void *ctx)
{
	/* If the version were before 5.4, the verifier would find a path to a null pointer. */
	return LINUX_KERNEL_VERSION < 0x50400 ? *(volatile int *)0 : 0;
}

SEC("raw_tp/sys_enter")
int options(void *ctx)
{
	if (CONFIG_THERE_IS_NO_SUCH_OPTION || CONFIG_THERE_IS_NO_SUCH_NUMBER)
		return *(volatile int *)0;
	return CONFIG_HZ >= 100 && CONFIG_BPF_SYSCALL ? 0 : *(volatile int *)0;
}
