// SPDX-License-Identifier: Apache-2.0
// Attaching a program, and detaching it at once: to what its section names, or, where that is left
// to the project, to something that every machine has (docs/reason-codes.md lists it).

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/if_link.h>
#include <linux/perf_event.h>
#include "loader.h"

// What an attach function returns, besides 0 and negative errors: only the project knows the
// target.
#define NOT_HERE 1

#define OWN_FILE "/proc/self/exe"
#define CGROUPS	 "/sys/fs/cgroup"

// Of include/uapi/linux/netfilter.h: NFPROTO_IPV4 and NF_INET_LOCAL_IN.
#define NETFILTER_IPV4	   2
#define NETFILTER_LOCAL_IN 1

// Of include/uapi/asm-generic/socket.h, which both of our architectures have.
#ifndef SO_ATTACH_BPF
#define SO_ATTACH_BPF 50
#endif
#ifndef SO_ATTACH_REUSEPORT_EBPF
#define SO_ATTACH_REUSEPORT_EBPF 52
#endif

/* The function that a uprobe without a target of its own is attached to. It has a USDT probe:
 * SystemTap's note "bpfmatrix:probe" of version 3, without arguments or a semaphore. */
static __attribute__((noinline, used)) void probed(void)
{
	asm volatile("990: nop\n"
		     ".pushsection .note.stapsdt, \"\", %note\n"
		     ".balign 4\n"
		     ".4byte 992f - 991f, 994f - 993f, 3\n"
		     "991: .asciz \"stapsdt\"\n"
		     "992: .balign 4\n"
		     "993: .8byte 990b, _.stapsdt.base, 0\n"
		     ".asciz \"bpfmatrix\"\n"
		     ".asciz \"probe\"\n"
		     ".asciz \"\"\n"
		     "994: .balign 4\n"
		     ".popsection\n"
		     ".ifndef _.stapsdt.base\n"
		     ".pushsection .stapsdt.base, \"aG\", %progbits, .stapsdt.base, comdat\n"
		     ".weak _.stapsdt.base\n"
		     ".hidden _.stapsdt.base\n"
		     "_.stapsdt.base: .space 1\n"
		     ".size _.stapsdt.base, 1\n"
		     ".popsection\n"
		     ".endif\n");
}

struct place {
	size_t address; /* in memory */
	size_t offset;	/* in the file; 0 if not found */
};

static int find_place(struct dl_phdr_info *info, size_t size, void *data)
{
	struct place *place = data;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];
		size_t start = info->dlpi_addr + part->p_vaddr;

		if (part->p_type == PT_LOAD && start <= place->address &&
		    place->address < start + part->p_filesz)
			place->offset = place->address - start + part->p_offset;
	}
	return 0;
}

/* Where the function above stands in this executable. */
static size_t own_offset(void)
{
	struct place place = {.address = (size_t)probed};

	dl_iterate_phdr(find_place, &place);
	return place.offset;
}

static bool section_begins(const struct bpf_program *program, const char *beginning)
{
	return strncmp(bpf_program__section_name(program), beginning, strlen(beginning)) == 0;
}

/* Detach; what libbpf returned in place of a link is an error. */
static int attached(struct bpf_link *link)
{
	if (!link)
		return -errno;
	bpf_link__destroy(link);
	return 0;
}

static int attach_uprobe(struct bpf_program *program)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = section_begins(program, "uretprobe"));

	return attached(
		bpf_program__attach_uprobe_opts(program, -1, OWN_FILE, own_offset(), &opts));
}

static int attach_uprobe_multi(struct bpf_program *program)
{
	unsigned long offset = own_offset();
	LIBBPF_OPTS(bpf_uprobe_multi_opts, opts, .offsets = &offset, .cnt = 1,
		    .retprobe = section_begins(program, "uretprobe"),
		    .session = section_begins(program, "uprobe.session"));

	return attached(bpf_program__attach_uprobe_multi(program, -1, OWN_FILE, NULL, &opts));
}

static int attach_usdt(struct bpf_program *program)
{
	return attached(
		bpf_program__attach_usdt(program, -1, OWN_FILE, "bpfmatrix", "probe", NULL));
}

/* A probe of a user's program. Of the project's files, a guest has only the objects: in place of
 * what it lacks, a function of this executable is probed. */
static int attach_user_probe(struct bpf_program *program)
{
	int error = -ENOENT;

	// Without FILE:FUNCTION the target is the project's choice, and libbpf says only EINVAL.
	if (section_target(program) && strchr(section_target(program), ':'))
		error = attached(bpf_program__attach(program));
	if (error != -ENOENT && error != -ESRCH)
		return error;
	words_clear();
	if (section_begins(program, "usdt"))
		return attach_usdt(program);
	if (section_begins(program, "uprobe.multi") || section_begins(program, "uretprobe.multi") ||
	    section_begins(program, "uprobe.session"))
		return attach_uprobe_multi(program);
	return attach_uprobe(program);
}

static int attach_to_section(struct bpf_program *program)
{
	if (!section_target(program))
		return NOT_HERE;
	return attached(bpf_program__attach(program));
}

static int attach_probe(struct bpf_program *program)
{
	if (section_begins(program, "u"))
		return attach_user_probe(program);
	return attach_to_section(program);
}

static int attach_iterator_with(struct bpf_program *program, union bpf_iter_link_info *info)
{
	LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = info, .link_info_len = sizeof(*info));

	return attached(bpf_program__attach_iter(program, &opts));
}

/* Iterators over something that the program's project chooses: over the first map of the object
 * that the kernel accepts, or over the root cgroup. */
static int attach_iterator(struct bpf_object *obj, struct bpf_program *program)
{
	const char *target = section_target(program);
	union bpf_iter_link_info info = {};
	struct bpf_map *map;
	int error;

	if (!target)
		return NOT_HERE;
	if (strcmp(target, "cgroup") == 0) {
		info.cgroup.cgroup_fd = open(CGROUPS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		info.cgroup.order = BPF_CGROUP_ITER_SELF_ONLY;
		error = attach_iterator_with(program, &info);
		close(info.cgroup.cgroup_fd);
		return error;
	}
	if (strcmp(target, "bpf_map_elem") != 0 && strcmp(target, "bpf_sk_storage_map") != 0 &&
	    strcmp(target, "sockmap") != 0)
		return attached(bpf_program__attach(program));
	bpf_object__for_each_map(map, obj)
	{
		if (!map_is_made(map) || bpf_map__is_internal(map))
			continue;
		info.map.map_fd = bpf_map__fd(map);
		if (!attach_iterator_with(program, &info))
			return 0;
	}
	return NOT_HERE;
}

static int attach_perf_event(struct bpf_program *program)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = 1000000, // in nanoseconds
	};
	int event = syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	struct bpf_link *link;
	int error;

	if (event < 0)
		return -errno;
	link = bpf_program__attach_perf_event(program, event);
	if (link)
		return attached(link); // which closes the event
	error = -errno;
	close(event);
	return error;
}

/* Kernels before 5.7 have no links: there, the program itself is attached. */
static int attach_without_link(struct bpf_program *program, int target, enum bpf_attach_type type)
{
	int fd = bpf_program__fd(program);

	if (bpf_prog_attach(fd, target, type, 0))
		return -errno;
	bpf_prog_detach2(fd, target, type);
	return 0;
}

static int attach_cgroup(struct bpf_program *program)
{
	char path[] = CGROUPS "/bpfmatrix-XXXXXX";
	int folder, error;

	if (!mkdtemp(path))
		return -errno;
	folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	error = folder < 0 ? -errno : attached(bpf_program__attach_cgroup(program, folder));
	if (error == -EINVAL &&
	    !attach_without_link(program, folder, bpf_program__expected_attach_type(program)))
		error = 0;
	close(folder);
	rmdir(path);
	return error;
}

static int attach_xdp(struct bpf_program *program)
{
	enum bpf_attach_type type = bpf_program__expected_attach_type(program);
	int loopback = if_nametoindex("lo");
	int error;

	if (type == BPF_XDP_DEVMAP || type == BPF_XDP_CPUMAP)
		return NOT_HERE;
	error = attached(bpf_program__attach_xdp(program, loopback));
	if (error == -EINVAL && // before 5.9
	    !bpf_xdp_attach(loopback, bpf_program__fd(program), XDP_FLAGS_SKB_MODE, NULL)) {
		bpf_xdp_detach(loopback, XDP_FLAGS_SKB_MODE, NULL);
		error = 0;
	}
	return error;
}

/* As a filter of a qdisc, before 6.6. Both may be modules, which the guest then lacks. */
static int attach_filter(struct bpf_program *program, int device, bool egress)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = device,
		    .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_hook, both, .ifindex = device,
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = bpf_program__fd(program));
	int error = bpf_tc_hook_create(&hook);

	if (error && error != -EEXIST)
		return error == -ENOENT ? NOT_HERE : error;
	error = bpf_tc_attach(&hook, &opts);
	if (!error) {
		opts.prog_fd = opts.prog_id = opts.flags = 0;
		bpf_tc_detach(&hook, &opts);
	}
	bpf_tc_hook_destroy(&both);
	return error == -ENOENT ? NOT_HERE : error;
}

static int attach_tc(struct bpf_program *program)
{
	enum bpf_attach_type type = bpf_program__expected_attach_type(program);
	int loopback = if_nametoindex("lo");
	int link, error;

	if (type == BPF_NETKIT_PRIMARY || type == BPF_NETKIT_PEER)
		return NOT_HERE;
	if (type == BPF_TCX_INGRESS || type == BPF_TCX_EGRESS) {
		error = attached(bpf_program__attach_tcx(program, loopback, NULL));
	} else { // the section leaves the direction to the project
		link = bpf_link_create(bpf_program__fd(program), loopback, BPF_TCX_INGRESS, NULL);
		error = link < 0 ? link : close(link);
	}
	if (!error || section_begins(program, "tcx"))
		return error;
	words_clear();
	return attach_filter(program, loopback, type == BPF_TCX_EGRESS);
}

static int attach_netns(struct bpf_program *program)
{
	int namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int error;

	if (namespace < 0)
		return -errno;
	error = attached(bpf_program__attach_netns(program, namespace));
	if (error == -EINVAL &&
	    !attach_without_link(program, 0, bpf_program__expected_attach_type(program)))
		error = 0;
	close(namespace);
	return error;
}

/* Two programs of a hook can't have the same priority, so each process has one of its own. */
static int attach_netfilter(struct bpf_program *program)
{
	LIBBPF_OPTS(bpf_netfilter_opts, opts, .pf = NETFILTER_IPV4, .hooknum = NETFILTER_LOCAL_IN,
		    .priority = getpid());

	return attached(bpf_program__attach_netfilter(program, &opts));
}

static int attach_sockmap(struct bpf_program *program)
{
	enum bpf_attach_type type = bpf_program__expected_attach_type(program);
	int map = bpf_map_create(BPF_MAP_TYPE_SOCKMAP, NULL, 4, 4, 1, NULL);
	int error;

	if (map < 0)
		return map;
	if (bpf_program__type(program) == BPF_PROG_TYPE_SK_SKB && !type)
		type = BPF_SK_SKB_STREAM_VERDICT;
	error = attach_without_link(program, map, type);
	close(map);
	return error;
}

static int attach_socket(struct bpf_program *program, int option)
{
	int fd = bpf_program__fd(program), on = 1, error = 0;
	int target = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (target < 0)
		return -errno;
	if ((option == SO_ATTACH_REUSEPORT_EBPF &&
	     setsockopt(target, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on))) ||
	    setsockopt(target, SOL_SOCKET, option, &fd, sizeof(fd)))
		error = -errno;
	close(target);
	return error;
}

static int attach_struct_ops(struct bpf_object *obj)
{
	struct bpf_map *map;
	int error = NOT_HERE;

	bpf_object__for_each_map(map, obj)
	{
		if (bpf_map__type(map) != BPF_MAP_TYPE_STRUCT_OPS || !map_is_made(map))
			continue;
		error = attached(bpf_map__attach_struct_ops(map));
		if (error)
			break;
	}
	return error;
}

static int attach(struct bpf_object *obj, struct bpf_program *program)
{
	switch (bpf_program__type(program)) {
	case BPF_PROG_TYPE_KPROBE:
		return attach_probe(program);
	case BPF_PROG_TYPE_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
	case BPF_PROG_TYPE_EXT:
		return attach_to_section(program);
	case BPF_PROG_TYPE_TRACING:
		if (bpf_program__expected_attach_type(program) == BPF_TRACE_ITER)
			return attach_iterator(obj, program);
		return attach_to_section(program);
	case BPF_PROG_TYPE_LSM:
		if (bpf_program__expected_attach_type(program) == BPF_LSM_CGROUP)
			return attach_cgroup(program);
		return attach_to_section(program);
	case BPF_PROG_TYPE_PERF_EVENT:
		return attach_perf_event(program);
	case BPF_PROG_TYPE_CGROUP_SKB:
	case BPF_PROG_TYPE_CGROUP_SOCK:
	case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
	case BPF_PROG_TYPE_CGROUP_SOCKOPT:
	case BPF_PROG_TYPE_CGROUP_SYSCTL:
	case BPF_PROG_TYPE_CGROUP_DEVICE:
	case BPF_PROG_TYPE_SOCK_OPS:
		return attach_cgroup(program);
	case BPF_PROG_TYPE_XDP:
		return attach_xdp(program);
	case BPF_PROG_TYPE_SCHED_CLS:
		return attach_tc(program);
	case BPF_PROG_TYPE_FLOW_DISSECTOR:
	case BPF_PROG_TYPE_SK_LOOKUP:
		return attach_netns(program);
	case BPF_PROG_TYPE_NETFILTER:
		return attach_netfilter(program);
	case BPF_PROG_TYPE_SK_SKB:
	case BPF_PROG_TYPE_SK_MSG:
		return attach_sockmap(program);
	case BPF_PROG_TYPE_SOCKET_FILTER:
		return attach_socket(program, SO_ATTACH_BPF);
	case BPF_PROG_TYPE_SK_REUSEPORT:
		return attach_socket(program, SO_ATTACH_REUSEPORT_EBPF);
	case BPF_PROG_TYPE_STRUCT_OPS:
		return attach_struct_ops(obj);
	default:
		return NOT_HERE;
	}
}

/* What the section names does not exist; with links of several functions, none of them. */
static bool names_nothing(const struct bpf_program *program, int error)
{
	switch (bpf_program__type(program)) {
	case BPF_PROG_TYPE_KPROBE:
	case BPF_PROG_TYPE_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
		return error == -ENOENT && !section_begins(program, "u");
	default:
		return false;
	}
}

/* A program of an array of programs must be loaded for the object to be: its index, or -1. */
static int wanted_by_array(struct bpf_object *obj)
{
	const char *line = words_last("map '");
	char *name = between(line, "to prog '", "'");
	int index =
		name && strstr(line, "failed to initialize slot") ? program_index(obj, name) : -1;

	free(name);
	return index;
}

/* Whether an array of programs holds a program: it is called, and not attached. */
static bool is_tail_called(struct session *session, const struct bpf_program *program)
{
	struct elf_uses *uses = session_uses(session);

	return uses &&
	       elf_is_tail(uses, bpf_program__section_name(program), bpf_program__name(program));
}

/* Load a program as libbpf does, with those that it needs beside it. */
static struct bpf_object *load_for_attaching(struct session *session, int index, json_t **failure)
{
	struct bpf_object *obj;
	struct bpf_program *program;
	bool *wanted = NULL;
	int error, next;

	for (;;) {
		obj = session_object(session, ALL, failure);
		if (!obj)
			break;
		program = program_at(obj, index);
		keep_only(obj, program, true);
		for (int i = 0; wanted && (program = program_at(obj, i)); i++) {
			if (wanted[i])
				bpf_program__set_autoload(program, true);
		}
		program = program_at(obj, index);
		if (bpf_program__type(program) == BPF_PROG_TYPE_EXT)
			*failure = target_set(session, program);
		words_clear();
		error = *failure ? 0 : bpf_object__load(obj);
		if (!error && !*failure)
			break;
		next = error ? wanted_by_array(obj) : -1;
		if (!wanted && next >= 0) {
			int count = 0;

			while (program_at(obj, count))
				count++;
			wanted = calloc(count, sizeof(*wanted));
		}
		if (next < 0 || !wanted || wanted[next]) {
			if (!*failure)
				*failure = failure_json("load", error);
			bpf_object__close(obj);
			obj = NULL;
			break;
		}
		wanted[next] = true;
		// Those in the other slots, too: libbpf complains of one at a time.
		for (int i = 0; (program = program_at(obj, i)); i++) {
			if (is_tail_called(session, program))
				wanted[i] = true;
		}
		bpf_object__close(obj);
	}
	free(wanted);
	return obj;
}

json_t *attach_program(struct session *session, int index)
{
	json_t *failure = NULL, *result;
	struct bpf_object *obj;
	struct bpf_program *program;
	int error;

	// What is to be left out of the object is known once it is prepared.
	words_clear();
	obj = session_prepare(session, index, &failure);
	if (obj)
		failure = session_refusal(session, program_at(obj, index));
	if (failure)
		return json_pack("{s:b, s:o}", "loaded", 0, "failure", failure);
	obj = load_for_attaching(session, index, &failure);
	if (!obj)
		return json_pack("{s:b, s:o}", "loaded", 0, "failure", failure);
	program = program_at(obj, index);
	words_clear();
	error = is_tail_called(session, program) ? NOT_HERE : attach(obj, program);
	result = json_pack("{s:b}", "loaded", 1);
	if (error <= 0)
		json_object_set_new(result, "attached", json_boolean(!error));
	if (error < 0) {
		failure = failure_json("attach", error);
		failure_say(failure, "prog '%s': failed to attach: -%s", bpf_program__name(program),
			    error_name(error));
		if (names_nothing(program, error))
			failure_missing(failure, "target", section_target(program));
		json_object_set_new(result, "failure", failure);
	}
	bpf_object__close(obj);
	return result;
}
