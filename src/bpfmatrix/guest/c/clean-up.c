/* SPDX-License-Identifier: Apache-2.0
 *
 * clean-up: brings the guest back to the state that it had before a test.
 *
 *     clean-up note FILE            writes the state of the guest to FILE, before any test runs
 *     clean-up compare FILE PREFIX  prints which modules and sysctls differ from FILE
 *     clean-up undo FILE PREFIX     ends all processes but init, removes what a test left behind,
 *                                   sets sysctls back, and prints what still differs from FILE,
 *                                   and which sysctls differed
 *
 * What is printed are lines for the host: PREFIX, a space, and a sentence.
 *
 * `undo` removes mounts, network devices, network namespaces with a name, pinned eBPF objects,
 * cgroups, probes of tracefs, and eBPF programs that stay attached without a process: by tc, XDP,
 * tcx, struct_ops, or to the root cgroup or the network namespace. Modules stay loaded. Files in
 * /tmp, addresses, routes and packet filters are left as they are.
 *
 * The exit status is 0, or 1 if FILE can't be written or used.
 */
#include "guest.h"

/* The kernel's include/uapi/asm-generic/signal.h, linux/fs.h, linux/fcntl.h and linux/errno.h. */
enum { SIGKILL = 9, MNT_DETACH = 2, AT_REMOVEDIR = 0x200 };
/* PF_KTHREAD in the kernel's include/linux/sched.h: the same since Linux 2.6.27. */
enum { KERNEL_THREAD = 0x00200000 };
/* For how long to wait until processes have ended, and until the kernel has freed eBPF programs. */
enum { PAUSE_NANOSECONDS = 2000000, PAUSES = 1000 };

enum { STATE_BYTES = 1 << 18, PATH_BYTES = 4096, FILE_BYTES = 1 << 16 };

/* A text that grows. What does not fit is left out, and `full` is set. */
struct text {
	unsigned long size;
	int full;
	char bytes[STATE_BYTES];
};

static struct text noted, found;
static const char *prefix;
static int reported;
/* Whether all of a state is compared, or only what `compare` does. */
static int compares_all = 1;

/* ---- text ------------------------------------------------------------------------------------ */

static unsigned long length(const char *text)
{
	unsigned long size = 0;

	while (text[size])
		size++;
	return size;
}

static int begins(const char *text, const char *with)
{
	while (*with)
		if (*text++ != *with++)
			return 0;
	return 1;
}

static int equal(const char *one, const char *other)
{
	while (*one && *one == *other)
		one++, other++;
	return *one == *other;
}

static void append_bytes(struct text *text, const char *bytes, unsigned long size)
{
	if (size > sizeof(text->bytes) - 1 - text->size) {
		text->full = 1;
		return;
	}
	memcpy(text->bytes + text->size, bytes, size);
	text->size += size;
	text->bytes[text->size] = 0;
}

static void append(struct text *text, const char *more)
{
	append_bytes(text, more, length(more));
}

static void append_number(struct text *text, unsigned long number)
{
	char digits[20];
	int at = sizeof(digits);

	do
		digits[--at] = '0' + number % 10;
	while (number /= 10);
	append_bytes(text, digits + at, sizeof(digits) - at);
}

/* Returns a text of three parts, which the next call overwrites. */
static const char *joined(const char *first, const char *second, const char *third)
{
	static struct text whole;

	whole.size = 0;
	append(&whole, first);
	append(&whole, second);
	append(&whole, third);
	return whole.bytes;
}

static unsigned long number_of(const char *digits)
{
	unsigned long number = 0;

	while (*digits >= '0' && *digits <= '9')
		number = number * 10 + (*digits++ - '0');
	return number;
}

/* ---- files ----------------------------------------------------------------------------------- */

static long open_file(const char *path, int flags)
{
	return system_call(SYS_openat, AT_FDCWD, (long)path, flags, 0600);
}

static void close_file(long file)
{
	system_call(SYS_close, file, 0, 0, 0);
}

static long write_file(const char *path, int flags, const char *bytes, unsigned long size)
{
	long file = open_file(path, O_WRONLY | flags), done = 0;

	if (file < 0)
		return file;
	for (unsigned long at = 0; at < size; at += done) {
		done = system_call(SYS_write, file, (long)(bytes + at), size - at, 0);
		if (done <= 0)
			break;
	}
	close_file(file);
	return done < 0 ? done : 0;
}

/* Reads a file of a folder that the kernel gives in one piece, as read_file does. There are
 * hundreds of such files, and each system call costs, as does each part of a path.
 */
static long read_piece(long folder, const char *name, char *bytes, unsigned long size)
{
	long file = system_call(SYS_openat, folder, (long)name, O_RDONLY, 0), done;

	if (file < 0)
		return file;
	done = system_call(SYS_read, file, (long)bytes, size - 1, 0);
	close_file(file);
	bytes[done < 0 ? 0 : done] = 0;
	return done;
}

/* Reads a file from its beginning, adds a NUL, and returns the number of bytes, or an error. */
static long read_file(const char *path, char *bytes, unsigned long size)
{
	long file = open_file(path, O_RDONLY), done, all = 0;

	if (file < 0)
		return file;
	do {
		done = system_call(SYS_read, file, (long)(bytes + all), size - 1 - all, 0);
		if (done > 0)
			all += done;
	} while (done > 0 && (unsigned long)all < size - 1);
	close_file(file);
	bytes[all] = 0;
	return done < 0 ? done : all;
}

/* struct linux_dirent64 of getdents64(2). */
struct entry {
	unsigned long inode;
	long offset;
	unsigned short size;
	unsigned char type;
	char name[];
};

enum { TYPE_FOLDER = 4 };

/* What is done with each entry of an open folder, at a path that ends in the entry's name. */
typedef void visitor(long folder, const char *path, const struct entry *entry);

/* Calls a visitor for each entry of a folder but `.` and `..`. `path` has space for a name more. */
static void visit(char *path, visitor *visited)
{
	char buffer[1024] __attribute__((aligned(8))); /* this function calls itself by `visited` */
	unsigned long end = length(path);
	long folder = open_file(path, O_RDONLY), size;

	if (folder < 0)
		return;
	while ((size = system_call(SYS_getdents64, folder, (long)buffer, sizeof(buffer), 0)) > 0) {
		for (long at = 0; at < size;) {
			const struct entry *entry = (const struct entry *)(buffer + at);

			at += entry->size;
			if (equal(entry->name, ".") || equal(entry->name, ".."))
				continue;
			if (end + 1 + length(entry->name) >= PATH_BYTES)
				continue;
			path[end] = '/';
			memcpy(path + end + 1, entry->name, length(entry->name) + 1);
			visited(folder, path, entry);
			path[end] = 0;
		}
	}
	close_file(folder);
}

static void visit_folder(const char *folder, visitor *visited)
{
	char path[PATH_BYTES];

	memcpy(path, folder, length(folder) + 1);
	visit(path, visited);
}

static void pause(void)
{
	const long time[2] = {0, PAUSE_NANOSECONDS};

	system_call(SYS_nanosleep, (long)time, 0, 0, 0);
}

/* ---- what the host is told ---------------------------------------------------------------------
 */

/* Prints a line of up to three parts, whose control characters become spaces. */
static void report(const char *first, const char *second, const char *third)
{
	static struct text line;

	reported = 1;
	line.size = 0;
	append(&line, prefix);
	append(&line, " ");
	append(&line, first);
	append(&line, second);
	append(&line, third);
	for (unsigned long at = 0; at < line.size; at++)
		if ((unsigned char)line.bytes[at] < ' ')
			line.bytes[at] = ' ';
	append(&line, "\n");
	system_call(SYS_write, 1, (long)line.bytes, line.size, 0);
}

/* ---- eBPF ------------------------------------------------------------------------------------ */

/* The commands of bpf(2) and the types that are used here: enum bpf_cmd, bpf_map_type and
 * bpf_attach_type in the kernel's include/uapi/linux/bpf.h.
 */
enum {
	BPF_MAP_DELETE_ELEM = 3,
	BPF_PROG_DETACH = 9,
	BPF_PROG_GET_NEXT_ID = 11,
	BPF_MAP_GET_NEXT_ID = 12,
	BPF_PROG_GET_FD_BY_ID = 13,
	BPF_MAP_GET_FD_BY_ID = 14,
	BPF_OBJ_GET_INFO_BY_FD = 15,
	BPF_PROG_QUERY = 16,
	BPF_MAP_TYPE_STRUCT_OPS = 26,
	BPF_FLOW_DISSECTOR = 17,
	BPF_TCX_INGRESS = 46,
	BPF_TCX_EGRESS = 47,
	ATTACH_TYPES = 64
};

/* The fields of union bpf_attr for each command, in its order. */
union attributes {
	struct {
		unsigned int id, next_id, flags;
	} object;
	struct {
		unsigned int file, size;
		unsigned long info;
	} info;
	struct {
		unsigned int map, unused;
		unsigned long key;
	} element;
	struct {
		unsigned int target, type, flags, attach_flags;
		unsigned long ids;
		unsigned int count;
	} query;
	struct {
		unsigned int target, program, type, flags;
	} detach;
	char bytes[72];
};

/* The beginning of struct bpf_prog_info and of struct bpf_map_info; `name` is that of a program. */
struct object_info {
	unsigned int type, id;
	char others[56];
	char name[16];
};

/* Returns attributes that are all zero, as the kernel requires of those that a command does not
 * use. An initializer of one member would leave the bytes of the others as they are.
 */
static union attributes no_attributes(void)
{
	union attributes attributes;

	memset(&attributes, 0, sizeof(attributes));
	return attributes;
}

static long bpf(int command, union attributes *attributes)
{
	return system_call(SYS_bpf, command, (long)attributes, sizeof(*attributes), 0);
}

/* Returns the id that comes after `id`, or 0. Linux gives ids in ascending order. */
static unsigned int next_id(int command, unsigned int id)
{
	union attributes attributes = no_attributes();

	attributes.object.id = id;
	return bpf(command, &attributes) < 0 ? 0 : attributes.object.next_id;
}

static unsigned int last_id(int command)
{
	unsigned int id, last = 0;

	while ((id = next_id(command, last)))
		last = id;
	return last;
}

static long object_of(int command, unsigned int id, struct object_info *info)
{
	union attributes attributes = no_attributes();
	long file;

	attributes.object.id = id;
	file = bpf(command, &attributes);
	memset(info, 0, sizeof(*info));
	if (file >= 0) {
		attributes = no_attributes();
		attributes.info.file = file;
		attributes.info.size = sizeof(*info);
		attributes.info.info = (long)info;
		bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes);
	}
	return file;
}

/* Detaches all programs of an attach type from a target: the file of a cgroup or of a network
 * namespace, or the number of a network device.
 */
static void detach_all(unsigned int target, unsigned int type)
{
	unsigned int ids[64];
	union attributes query = no_attributes();

	query.query.target = target;
	query.query.type = type;
	query.query.ids = (long)ids;
	query.query.count = 64;
	if (bpf(BPF_PROG_QUERY, &query) < 0)
		return;
	for (unsigned int at = 0; at < query.query.count && at < 64; at++) {
		struct object_info info;
		long program = object_of(BPF_PROG_GET_FD_BY_ID, ids[at], &info);
		union attributes detach = no_attributes();

		if (program < 0)
			continue;
		/* A flow dissector is detached from the network namespace of the caller. */
		detach.detach.target = type == BPF_FLOW_DISSECTOR ? 0 : target;
		detach.detach.program = program;
		detach.detach.type = type;
		bpf(BPF_PROG_DETACH, &detach);
		close_file(program);
	}
}

static void unregister_struct_ops(unsigned int after)
{
	while ((after = next_id(BPF_MAP_GET_NEXT_ID, after))) {
		struct object_info info;
		long map = object_of(BPF_MAP_GET_FD_BY_ID, after, &info);
		unsigned int key = 0;
		union attributes element = no_attributes();

		if (map < 0)
			continue;
		element.element.map = map;
		element.element.key = (long)&key;
		if (info.type == BPF_MAP_TYPE_STRUCT_OPS)
			bpf(BPF_MAP_DELETE_ELEM, &element);
		close_file(map);
	}
}

/* ---- network devices ------------------------------------------------------------------------- */

/* The kernel's include/uapi/linux/netlink.h, rtnetlink.h, if_link.h and pkt_sched.h. */
enum {
	AF_NETLINK = 16,
	SOCK_RAW = 3,
	NETLINK_ROUTE = 0,
	NLM_F_REQUEST = 1,
	RTM_DELLINK = 17,
	RTM_SETLINK = 19,
	RTM_DELQDISC = 37,
	IFLA_XDP = 43 | 1 << 15, /* NLA_F_NESTED */
	IFLA_XDP_FD = 1,
	IFLA_XDP_FLAGS = 3,
	XDP_FLAGS_SKB_MODE = 2,
	XDP_FLAGS_DRV_MODE = 4,
	TC_H_ROOT = -1,
	TC_H_CLSACT = -15 /* and that of the ingress qdisc */
};

struct netlink_header {
	unsigned int size;
	unsigned short type, flags;
	unsigned int sequence, port;
};

struct link_request {
	struct netlink_header header;
	unsigned short family, type;
	int index;
	unsigned int flags, change;
	/* Only for XDP: */
	unsigned short nested_size, nested_type;
	unsigned short fd_size, fd_type;
	int fd;
	unsigned short mode_size, mode_type;
	unsigned int mode;
};

struct qdisc_request {
	struct netlink_header header;
	unsigned int family;
	int index, handle, parent;
	unsigned int info;
};

static long netlink = -1;

/* Sends a request without waiting for an answer: the kernel has done it when write(2) returns. */
static void send_request(void *request, unsigned int size, unsigned short type)
{
	struct netlink_header *header = request;

	header->size = size;
	header->type = type;
	header->flags = NLM_F_REQUEST;
	system_call(SYS_write, netlink, (long)request, size, 0);
}

static void delete_device(int index)
{
	struct link_request request = {.index = index};

	send_request(&request, sizeof(struct netlink_header) + 16, RTM_DELLINK);
}

static void detach_from_device(int index)
{
	const int modes[] = {XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE};
	const int parents[] = {TC_H_CLSACT, TC_H_ROOT};

	for (int at = 0; at < 2; at++) {
		struct link_request xdp = {.index = index,
					   .nested_size = 20,
					   .nested_type = IFLA_XDP,
					   .fd_size = 8,
					   .fd_type = IFLA_XDP_FD,
					   .fd = -1,
					   .mode_size = 8,
					   .mode_type = IFLA_XDP_FLAGS,
					   .mode = modes[at]};
		struct qdisc_request qdisc = {.index = index, .parent = parents[at]};

		send_request(&xdp, sizeof(xdp), RTM_SETLINK);
		send_request(&qdisc, sizeof(qdisc), RTM_DELQDISC);
	}
	detach_all(index, BPF_TCX_INGRESS);
	detach_all(index, BPF_TCX_EGRESS);
}

/* Returns the number of a network device, or 0. */
static int device_index(const char *name)
{
	const char *path = joined("/sys/class/net/", name, "/ifindex");
	char digits[16];

	return read_file(path, digits, sizeof(digits)) > 0 ? (int)number_of(digits) : 0;
}

/* ---- the state of the guest ------------------------------------------------------------------ */

/* Each line of a state begins with a letter for its kind, and a space. */
static char content[FILE_BYTES];

static void add(const char *kind, const char *text, unsigned long size)
{
	append(&found, kind);
	append_bytes(&found, text, size);
	append(&found, "\n");
}

/* Adds each line of a file, up to the first character `end`. */
static void add_lines(const char *kind, const char *path, char end)
{
	const char *line = content;

	if (read_file(path, content, sizeof(content)) < 0)
		return;
	while (*line) {
		unsigned long size = 0;

		while (line[size] && line[size] != '\n' && line[size] != end)
			size++;
		add(kind, line, size);
		while (*line && *line != '\n')
			line++;
		line += *line == '\n';
	}
}

static void add_device(long folder, const char *path, const struct entry *entry)
{
	(void)folder;
	(void)path;
	add("d ", entry->name, length(entry->name));
}

static void add_pin(long folder, const char *path, const struct entry *entry)
{
	(void)folder;
	(void)path;
	add("p ", entry->name, length(entry->name));
}

/* sysctls that change by themselves, or that do something when they are read. The host name and the
 * patterns of core files, which init sets, are noted again before the first test.
 */
static const char *const unsteady[] = {
	"debug/",
	"dev/cdrom/",
	"fs/aio-nr",
	"fs/dentry-state",
	"fs/file-nr",
	"fs/inode-",
	"fs/mqueue/",
	"fs/quota/",
	"kernel/keys/",
	"kernel/ns_last_pid",
	"kernel/perf_cpu_time_max_percent",
	"kernel/perf_event_max_sample_rate",
	"kernel/pty/",
	"kernel/random/",
	"kernel/sched_domain/",
	"kernel/seccomp/",
	"kernel/tainted",
	"kernel/unprivileged_userns_apparmor",
	"net/ipv4/conf/",
	"net/ipv4/neigh/",
	"net/ipv4/route/",
	"net/ipv4/tcp_fastopen_key",
	"net/ipv6/conf/",
	"net/ipv6/neigh/",
	"net/ipv6/route/",
	"net/netfilter/",
	"net/nf_conntrack",
	"vm/compact",
	"vm/drop_caches",
	"vm/stat_refresh",
};

static int is_unsteady(const char *name)
{
	for (unsigned long at = 0; at < sizeof(unsteady) / sizeof(*unsteady); at++)
		if (begins(name, unsteady[at]))
			return 1;
	return 0;
}

static void add_sysctl(long folder, const char *path, const struct entry *entry)
{
	const char *name = path + sizeof("/proc/sys/") - 1;
	char value[256];
	long size;

	if (is_unsteady(name))
		return;
	/* Init sets these after the only note of a guest that runs a single test. */
	if (!compares_all && (begins(name, "kernel/core_p") || begins(name, "kernel/hostname")))
		return;
	if (entry->type == TYPE_FOLDER) {
		visit((char *)path, add_sysctl);
		return;
	}
	size = read_piece(folder, entry->name, value, sizeof(value));
	if (size < 0)
		return;
	while (size && value[size - 1] == '\n')
		size--;
	for (long at = 0; at < size; at++)
		if (value[at] == '\n')
			value[at] = ' ';
	append(&found, "s ");
	append(&found, name);
	append(&found, " ");
	add("", value, size);
}

static void add_last_id(const char *kind, int command)
{
	append(&found, kind);
	append_number(&found, last_id(command));
	append(&found, "\n");
}

/* Writes the state to `found`: what can be removed, or what can only be set back or reported. */
static void look_at_removable(void)
{
	found.size = 0;
	add_lines("m ", "/proc/self/mountinfo", 0);
	visit_folder("/sys/class/net", add_device);
	visit_folder("/sys/fs/bpf", add_pin);
}

static void look_at_settings(void)
{
	add_lines("k ", "/proc/modules", ' ');
	visit_folder("/proc/sys", add_sysctl);
}

/* Tells whether a line is about something that only `undo` compares. */
static int is_removable(const char *line)
{
	return line[0] == 'm' || line[0] == 'd' || line[0] == 'p';
}

/* Returns the line of `where` that is `line` up to `size` bytes and then ends, or 0. */
static const char *find(const struct text *where, const char *line, unsigned long size)
{
	for (const char *at = where->bytes; *at;) {
		if (*at == *line) {
			unsigned long same = 0;

			while (same < size && at[same] == line[same])
				same++;
			if (same == size && at[same] == '\n')
				return at;
		}
		while (*at != '\n')
			at++;
		at++;
	}
	return 0;
}

/* What is done with a line that only one of two states has; the line ends with a NUL. */
typedef void difference(char *line);

/* Calls a function for each line of `where` that `other` does not have. */
static void for_each_new(struct text *where, const struct text *other, difference *different)
{
	const char *expected = other->bytes;

	for (char *line = where->bytes; *line;) {
		unsigned long size = 0;
		const char *known = expected;

		/* Mostly, both have the same lines in the same order. */
		while (line[size] != '\n' && known[size] == line[size])
			size++;
		if (line[size] != '\n' || known[size] != '\n') {
			while (line[size] != '\n')
				size++;
			known = find(other, line, size);
		}
		if (known) {
			expected = known + size + 1;
		} else {
			line[size] = 0;
			different(line);
			line[size] = '\n';
		}
		line += size + 1;
	}
}

/* ---- undo ------------------------------------------------------------------------------------ */

/* Cuts a line at the space after its first words, and returns what comes behind. */
static char *split(char *line, int words)
{
	while (*line && (*line != ' ' || --words))
		line++;
	if (!*line)
		return line;
	*line = 0;
	return line + 1;
}

/* Returns the mount point in a line of mountinfo, with its escapes (such as \040) replaced. */
static char *mount_point(char *line)
{
	char *point = split(line, 4), *from = point, *to = point;

	split(point, 1);
	while (*from) {
		if (from[0] == '\\' && from[1] && from[2] && from[3]) {
			*to++ = (from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0');
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = 0;
	return point;
}

static int removed;

/* Tells whether a state has the mount of a line, though perhaps with other options. */
static int has_mount(const struct text *state, const char *line)
{
	/* The mounts come first in a state; the number of a mount is the first word. */
	for (const char *at = state->bytes; at[0] == 'm'; at++) {
		if (number_of(at + 2) == number_of(line + 2))
			return 1;
		while (*at != '\n')
			at++;
	}
	return 0;
}

static void remove_mount(char *line)
{
	char copy[PATH_BYTES];

	if (line[0] != 'm' || length(line) >= sizeof(copy) || has_mount(&noted, line))
		return;
	memcpy(copy, line + 2, length(line + 2) + 1);
	removed |= system_call(SYS_umount2, (long)mount_point(copy), MNT_DETACH, 0, 0) == 0;
}

static void remove_tree(long folder, const char *path, const struct entry *entry)
{
	(void)folder;
	if (entry->type == TYPE_FOLDER) {
		visit((char *)path, remove_tree);
		system_call(SYS_unlinkat, AT_FDCWD, (long)path, AT_REMOVEDIR, 0);
	} else {
		system_call(SYS_unlinkat, AT_FDCWD, (long)path, 0, 0);
	}
}

/* A cgroup's files can't be removed, and go with its folder. */
static void remove_cgroups(long folder, const char *path, const struct entry *entry)
{
	(void)folder;
	if (entry->type != TYPE_FOLDER)
		return;
	visit((char *)path, remove_cgroups);
	system_call(SYS_unlinkat, AT_FDCWD, (long)path, AT_REMOVEDIR, 0);
}

/* Switches the controllers off that a test has switched on for the cgroups below the root. */
static void reset_controllers(void)
{
	static struct text off;

	char *name = content;

	if (read_file("/sys/fs/cgroup/cgroup.subtree_control", content, sizeof(content)) <= 0)
		return;
	while (*name) {
		unsigned long size = 0;

		while (name[size] > ' ')
			size++;
		append(&off, "-");
		append_bytes(&off, name, size);
		append(&off, " ");
		name += size + (name[size] != 0);
	}
	write_file("/sys/fs/cgroup/cgroup.subtree_control", 0, off.bytes, off.size);
}

static void remove_pin(char *line)
{
	const struct entry folder = {.type = TYPE_FOLDER};
	char path[PATH_BYTES] = "/sys/fs/bpf/";

	if (line[0] != 'p' || length(line) >= sizeof(path) - length(path))
		return;
	memcpy(path + length(path), line + 2, length(line + 2) + 1);
	if (system_call(SYS_unlinkat, AT_FDCWD, (long)path, 0, 0) < 0)
		remove_tree(-1, path, &folder);
}

static void remove_device(char *line)
{
	if (line[0] == 'd')
		delete_device(device_index(line + 2));
}

static void clean_device(long folder, const char *path, const struct entry *entry)
{
	(void)folder;
	(void)path;
	detach_from_device(device_index(entry->name));
}

/* Sets a sysctl back to the value that it has in a line of `noted`. */
static void set_back(char *line)
{
	char copy[PATH_BYTES], *value;

	if (line[0] != 's' || length(line) >= sizeof(copy))
		return;
	memcpy(copy, line + 2, length(line + 2) + 1);
	value = split(copy, 1);
	if (write_file(joined("/proc/sys/", copy, ""), 0, value, length(value)) < 0)
		report("could not be set back: sysctl ", copy, "");
}

static int alive;

static void kill_process(long folder, const char *path, const struct entry *entry)
{
	unsigned long pid = number_of(entry->name);
	char stat[512], *field;

	(void)path;
	if (pid < 2 || pid == (unsigned long)system_call(SYS_getpid, 0, 0, 0, 0))
		return;
	if (read_piece(folder, joined(entry->name, "/stat", ""), stat, sizeof(stat)) <= 0)
		return;
	/* The name in brackets may have brackets and spaces. The fields behind it: proc(5). */
	for (field = stat + length(stat); field > stat && *field != ')'; field--)
		;
	if (!*field || field[2] == 'Z' || field[2] == 'X')
		return;
	if (number_of(split(field + 2, 6)) & KERNEL_THREAD)
		return;
	alive++;
	system_call(SYS_kill, pid, SIGKILL, 0, 0);
}

static void end_processes(void)
{
	/* This is atomic: no process can fork out of it. */
	system_call(SYS_kill, -1, SIGKILL, 0, 0);
	for (int pauses = 0; pauses < PAUSES; pauses++) {
		alive = 0;
		visit_folder("/proc", kill_process);
		if (!alive)
			return;
		pause();
	}
	report("a process can't be ended", "", "");
}

/* Removes eBPF programs that are attached without a process, until none newer than `after` is left.
 */
static void detach_programs(unsigned int after, unsigned int maps_after)
{
	struct object_info info;
	unsigned int left = 0;

	for (int pauses = 0; pauses < PAUSES; pauses++) {
		left = next_id(BPF_PROG_GET_NEXT_ID, after);
		if (!left)
			return;
		/* The kernel frees programs a while after their last user has ended. */
		if (pauses % 64 == 8) {
			long cgroup = open_file("/sys/fs/cgroup/unified", O_RDONLY);
			long network = open_file("/proc/self/ns/net", O_RDONLY);

			if (cgroup < 0) /* no cgroups of version 1 */
				cgroup = open_file("/sys/fs/cgroup", O_RDONLY);
			for (int type = 0; type < ATTACH_TYPES; type++)
				detach_all(cgroup, type);
			detach_all(network, BPF_FLOW_DISSECTOR);
			close_file(cgroup);
			close_file(network);
			visit_folder("/sys/class/net", clean_device);
			unregister_struct_ops(maps_after);
		}
		pause();
	}
	close_file(object_of(BPF_PROG_GET_FD_BY_ID, left, &info));
	report("the eBPF program ", info.name[0] ? info.name : "without a name",
	       " is still loaded");
}

static int is_empty(const char *path)
{
	char first[2];

	return read_file(path, first, sizeof(first)) <= 0;
}

/* Removes the events that are made by writing to tracefs: probes of the kernel and of processes. */
static void remove_events(void)
{
	static const char *const lists[] = {
		"/sys/kernel/tracing/kprobe_events",
		"/sys/kernel/tracing/uprobe_events",
		"/sys/kernel/tracing/dynamic_events",
	};

	for (unsigned long at = 0; at < sizeof(lists) / sizeof(*lists); at++) {
		if (is_empty(lists[at]))
			continue;
		/* An event that is enabled can't be removed. */
		write_file("/sys/kernel/tracing/events/enable", 0, "0", 1);
		for (int pauses = 0; pauses < PAUSES && !is_empty(lists[at]); pauses++) {
			write_file(lists[at], O_TRUNC, "", 0);
			pause();
		}
		if (!is_empty(lists[at]))
			report("events are left in ", lists[at], "");
	}
}

static void report_new(char *line)
{
	char copy[PATH_BYTES], *value;

	if (length(line) >= sizeof(copy) || (is_removable(line) && !compares_all))
		return;
	memcpy(copy, line + 2, length(line + 2) + 1);
	switch (line[0]) {
	case 'm':
		report(has_mount(&noted, line) ? "a mount was changed: " : "a mount was added: ",
		       mount_point(copy), "");
		break;
	case 'k':
		report("a kernel module was loaded: ", copy, "");
		break;
	case 'd':
		report("a network device was added: ", copy, "");
		break;
	case 'p':
		report("an eBPF object is pinned: ", copy, "");
		break;
	case 's':
		value = split(copy, 1);
		report("a sysctl was changed: ", copy, joined(" is now ", value, ""));
		break;
	}
}

static void report_gone(char *line)
{
	char copy[PATH_BYTES];

	if (length(line) >= sizeof(copy) || (is_removable(line) && !compares_all))
		return;
	memcpy(copy, line + 2, length(line + 2) + 1);
	switch (line[0]) {
	case 'm':
		if (!has_mount(&found, line))
			report("a mount was removed: ", mount_point(copy), "");
		break;
	case 'k':
		report("a kernel module was removed: ", copy, "");
		break;
	case 'd':
		report("a network device is gone: ", copy, "");
		break;
	case 'p':
		report("a pinned eBPF object is gone: ", copy, "");
		break;
	}
}

static void undo(void)
{
	/* See note() for the last two lines of a state. */
	const char *maps = noted.bytes + noted.size - 1, *programs;

	while (maps[-1] != '\n')
		maps--;
	for (programs = maps - 1; programs[-1] != '\n'; programs--)
		;
	end_processes();
	do {
		removed = 0;
		look_at_removable();
		for_each_new(&found, &noted, remove_mount);
	} while (removed);
	for_each_new(&found, &noted, remove_pin);
	for_each_new(&found, &noted, remove_device);
	visit_folder("/run/netns", remove_tree);
	visit_folder("/host/above/run/netns", remove_tree); /* with --rootfs */
	visit_folder("/sys/fs/cgroup", remove_cgroups);
	reset_controllers();
	detach_programs(number_of(programs + 2), number_of(maps + 2));
	remove_events();
}

/* Writes the state as it is now, with two lines at its end: the newest eBPF program and map. */
static int note(const char *path)
{
	look_at_removable();
	look_at_settings();
	add_last_id("i ", BPF_PROG_GET_NEXT_ID);
	add_last_id("i ", BPF_MAP_GET_NEXT_ID);
	if (found.full)
		return 1;
	return write_file(path, O_CREAT | O_TRUNC, found.bytes, found.size) < 0;
}

/* Reads what note() wrote; returns whether it is whole. */
static int read_note(const char *path)
{
	long size = read_file(path, noted.bytes, sizeof(noted.bytes));
	int lines = 0;

	if (size <= 0 || noted.bytes[size - 1] != '\n')
		return 0;
	noted.size = size;
	for (const char *at = noted.bytes; *at; at++)
		lines += at[0] == '\n' && at[1] == 'i';
	return lines == 2;
}

int main(int count, char **words)
{
	if (count < 3)
		return 1;
	if (equal(words[1], "note"))
		return note(words[2]);
	if (count < 4 || !read_note(words[2]))
		return 1;
	prefix = words[3];
	compares_all = equal(words[1], "undo");
	if (compares_all) {
		netlink = system_call(SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, 0);
		undo();
		look_at_removable();
	}
	look_at_settings();
	if (found.full)
		return 1;
	for_each_new(&found, &noted, report_new);
	for_each_new(&noted, &found, report_gone);
	if (compares_all)
		for_each_new(&noted, &found, set_back);
	/* What stays is reported once, and not again after each test that follows. */
	return compares_all && reported ? note(words[2]) : 0;
}
