/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs whose attach target is resolved when they are loaded. */
#include "common.h"

SEC("fentry/do_nanosleep")
int existing_function(void *ctx)
{
	return 0;
}

SEC("fentry/there_is_no_such_function")
int no_function(void *ctx)
{
	return 0;
}

SEC("tp_btf/there_is_no_such_tracepoint")
int no_tracepoint(void *ctx)
{
	return 0;
}

SEC("lsm/there_is_no_such_hook")
int no_hook(void *ctx)
{
	return 0;
}

SEC("iter/there_is_no_such_iterator")
int no_iterator(void *ctx)
{
	return 0;
}
