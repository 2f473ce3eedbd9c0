/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A program with a function, an extension that replaces that function, and an extension for a
 * function that does not exist. */
#include "common.h"

__attribute__((noinline)) int decide(struct __sk_buff *skb)
{
	volatile int verdict = skb->len;

	return verdict;
}

SEC("classifier")
int filter(struct __sk_buff *skb)
{
	return decide(skb);
}

SEC("freplace/decide")
int decide_otherwise(struct __sk_buff *skb)
{
	return skb->len + 1;
}

SEC("freplace/there_is_no_such_function")
int no_function(struct __sk_buff *skb)
{
	return 0;
}
