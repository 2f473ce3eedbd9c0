/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* An LSM hook of a cgroup (6.0 and later). */
#include "../common.h"

SEC("lsm_cgroup/socket_bind")
int bind(unsigned long long *ctx)
{
	return 1;
}
