/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One program of each kind that every library knows, and that can be attached without knowing its
 * purpose, and two whose target does not exist. */
#include "common.h"

#define PROGRAM(section, name, verdict)                                                            \
	SEC(section) int name(void *ctx) { return verdict; }

PROGRAM("kprobe/do_nanosleep", by_kprobe, 0)
PROGRAM("kretprobe/do_nanosleep", by_kretprobe, 0)
PROGRAM("kprobe/there_is_no_such_function", no_function, 0)
PROGRAM("tracepoint/syscalls/sys_enter_getpid", by_tracepoint, 0)
PROGRAM("tp/there_is/no_such_tracepoint", no_tracepoint, 0)
PROGRAM("raw_tp/sched_switch", by_raw_tracepoint, 0)
PROGRAM("tp_btf/sched_switch", by_tp_btf, 0)
PROGRAM("fentry/do_nanosleep", by_fentry, 0)
PROGRAM("fexit/do_nanosleep", by_fexit, 0)
PROGRAM("lsm/bprm_committed_creds", by_lsm, 0)
PROGRAM("iter/bpf_map", by_iter, 0)
PROGRAM("perf_event", by_perf_event, 0)
PROGRAM("xdp", by_xdp, 2)
PROGRAM("socket", by_socket, 0)
PROGRAM("cgroup_skb/ingress", by_cgroup_skb, 1)
PROGRAM("cgroup/sock_create", by_cgroup_sock, 1)
PROGRAM("cgroup/connect4", by_cgroup_connect4, 1)
PROGRAM("cgroup/sysctl", by_cgroup_sysctl, 1)
PROGRAM("cgroup/getsockopt", by_cgroup_getsockopt, 1)
PROGRAM("cgroup/dev", by_cgroup_device, 1)
PROGRAM("sockops", by_sockops, 1)
PROGRAM("sk_lookup", by_sk_lookup, 1)
PROGRAM("flow_dissector", by_flow_dissector, 0)
PROGRAM("sk_skb/stream_verdict", by_sk_skb, 1)
PROGRAM("sk_msg", by_sk_msg, 1)
PROGRAM("sk_reuseport", by_sk_reuseport, 1)
PROGRAM("uprobe", by_uprobe, 0)
