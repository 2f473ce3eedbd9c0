/* SPDX-License-Identifier: Apache-2.0
 *
 * start-test: executes a command as the leader of a session, in a root directory, a folder, and
 * with the user, capabilities and resource limits that it is told.
 *
 *     start-test [WORD]... -- COMMAND [ARGUMENT]...
 *
 *     root PATH           make the mount at PATH the root directory, and mount /proc there
 *     bind SOURCE TARGET  mount SOURCE (before `root`) with what is below it at TARGET (after it)
 *     folder PATH         change to this folder, or to / if there is none
 *     terminal            make the standard input the controlling terminal
 *     limit NUMBER VALUE  set both limits of a resource (RLIMIT_*), -1 for no limit
 *     capabilities MASK   keep only these capabilities, a hexadecimal number
 *     user NAME           become this user, a name of /etc/passwd or a number
 *     token               make a user namespace, with a bpffs that delegates all of bpf(2)
 *     env NAME=VALUE      set a variable of the environment
 *
 * With `root` or `bind`, the command has a mount namespace of its own.
 *
 * The root is moved onto / and not only entered by chroot(2): a process whose root is not that of
 * its mount namespace can't make user namespaces. The command is looked up in PATH, after all that.
 * If it can't be executed, the exit status is 126, or 127 if there is no such file.
 */
#include "guest.h"

enum {
	/* include/uapi/linux/mount.h, fcntl.h, sched.h, prctl.h and capability.h of the kernel */
	MS_BIND = 0x1000,
	MS_MOVE = 0x2000,
	MS_REC = 0x4000,
	MS_PRIVATE = 1 << 18,
	O_PATH = 010000000,
	CLONE_FILES = 0x400,
	CLONE_NEWNS = 0x20000,
	CLONE_NEWUSER = 0x10000000,
	SIGCHLD = 17,
	FSCONFIG_SET_STRING = 1,
	FSCONFIG_CMD_CREATE = 6,
	MOVE_MOUNT_F_EMPTY_PATH = 4,
	PR_SET_KEEPCAPS = 8,
	PR_CAPBSET_READ = 23,
	PR_CAPBSET_DROP = 24,
	PR_CAP_AMBIENT = 47,
	PR_CAP_AMBIENT_RAISE = 2,
	CAPABILITY_VERSION_3 = 0x20080522,
	CAPABILITIES = 64,
	TIOCSCTTY = 0x540e,
	ENOENT = 2,
	ENOEXEC = 8,
	EACCES = 13,
	EEXIST = 17,
	ENOTDIR = 20,
	EINVAL = 22,
	PATH_BYTES = 4096,
	FILE_BYTES = 1 << 17,
	BINDS = 64,
	LIMITS = 16,
	SETTINGS = 256,
	GROUPS = 64,
	VARIABLES = 4096
};

struct user {
	unsigned long uid, gid;
	const char *name, *home;
};

static const char *root, *folder, *user_name;
static long bind_sources[BINDS];
static const char *bind_names[BINDS], *bind_targets[BINDS];
static const char *limit_numbers[LIMITS], *limit_values[LIMITS];
static char *settings[SETTINGS];
static int binds, limits, settings_count, has_capabilities, has_terminal, has_token;
static unsigned long capabilities;
static char *variables[VARIABLES + SETTINGS + 8];
static char file[FILE_BYTES];

static unsigned long length(const char *text)
{
	unsigned long size = 0;

	while (text[size])
		size++;
	return size;
}

static int equal(const char *one, const char *other)
{
	while (*one && *one == *other)
		one++, other++;
	return *one == *other;
}

static void print(const char *text)
{
	system_call(SYS_write, 2, (long)text, length(text), 0);
}

__attribute__((noreturn)) static void fail(int status, const char *what, const char *why)
{
	print(what);
	print(": ");
	print(why);
	print("\n");
	system_call(SYS_exit, status, 0, 0, 0);
	__builtin_unreachable();
}

/* Fails if a system call did. */
static void require(long result, const char *what, const char *why)
{
	if (result < 0)
		fail(126, what, why);
}

static unsigned long number_of(const char *text, int base)
{
	unsigned long number = 0;

	for (; *text; text++) {
		int digit = *text <= '9' ? *text - '0' : (*text | 0x20) - 'a' + 10;

		if (digit < 0 || digit >= base)
			break;
		number = number * base + digit;
	}
	return number;
}

/* Makes a folder, or an empty file, and the folders above it. */
static void make(const char *path, int is_folder)
{
	char part[PATH_BYTES];
	unsigned long size = length(path);

	if (size >= sizeof(part))
		fail(126, path, "the path is too long");
	for (unsigned long at = 1; at < size; at++) {
		if (path[at] != '/')
			continue;
		memcpy(part, path, at);
		part[at] = 0;
		system_call(SYS_mkdirat, AT_FDCWD, (long)part, 0755, 0);
	}
	if (is_folder)
		system_call(SYS_mkdirat, AT_FDCWD, (long)path, 0755, 0);
	else
		/* O_EXCL: an overlay would copy a file that is there, because it is opened for
		 * writing. */
		system_call(SYS_close,
			    system_call(SYS_openat, AT_FDCWD, (long)path,
					O_WRONLY | O_CREAT | O_EXCL, 0644),
			    0, 0, 0);
}

static char *decimal(unsigned long number, char *end)
{
	*end = 0;
	do
		*--end = '0' + number % 10;
	while (number /= 10);
	return end;
}

/* Whether a descriptor is of a folder: "." can be looked up in it. */
static int is_folder(long descriptor)
{
	long inner = system_call(SYS_openat, descriptor, (long)".", O_PATH, 0);

	system_call(SYS_close, inner, 0, 0, 0);
	return inner >= 0;
}

static void mount_all(void)
{
	if (root) {
		make("/proc", 1);
		require(system_call5(SYS_mount, (long)"proc", (long)"/proc", (long)"proc", 0, 0),
			"/proc", "can't be mounted in the root of the test");
	}
	for (int at = 0; at < binds; at++) {
		char path[64] = "/proc/self/fd/", digits[24];
		const char *digit = decimal(bind_sources[at], digits + sizeof(digits) - 1);

		memcpy(path + 14, digit, length(digit) + 1);
		make(bind_targets[at], is_folder(bind_sources[at]));
		require(system_call5(SYS_mount, (long)path, (long)bind_targets[at], 0,
				     MS_BIND | MS_REC, 0),
			bind_targets[at], "can't be mounted in the root of the test");
		system_call(SYS_close, bind_sources[at], 0, 0, 0);
	}
}

static void enter_namespace(void)
{
	require(system_call(SYS_unshare, CLONE_NEWNS, 0, 0, 0), "start-test", "no mount namespace");
	/* What the test mounts must not appear in the namespace of init. */
	system_call5(SYS_mount, 0, (long)"/", 0, MS_REC | MS_PRIVATE, 0);
	for (int at = 0; at < binds; at++) {
		bind_sources[at] =
			system_call(SYS_openat, AT_FDCWD, (long)bind_names[at], O_PATH, 0);
		require(bind_sources[at], bind_names[at], "can't be opened");
	}
	if (!root)
		return;
	require(system_call(SYS_chdir, (long)root, 0, 0, 0), root, "no such root");
	require(system_call5(SYS_mount, (long)".", (long)"/", 0, MS_MOVE, 0), root,
		"can't be moved onto /");
	require(system_call(SYS_chroot, (long)".", 0, 0, 0), root, "can't be entered");
}

/* Reads a file as a text; a file that can't be read is empty. */
static void read_file(const char *path)
{
	long descriptor = system_call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY, 0);
	unsigned long size = 0;
	long count;

	while (descriptor >= 0 && size < sizeof(file) - 1 &&
	       (count = system_call(SYS_read, descriptor, (long)(file + size),
				    sizeof(file) - 1 - size, 0)) > 0)
		size += count;
	file[size] = 0;
	system_call(SYS_close, descriptor, 0, 0, 0);
}

/* Splits the line at `*at` at its colons, and moves `*at` behind it; returns the number of fields.
 */
static int next_line(char **at, char **fields, int size)
{
	int count = 1;

	fields[0] = *at;
	for (; **at && **at != '\n'; (*at)++) {
		if (**at != ':')
			continue;
		**at = 0;
		if (count < size)
			fields[count++] = *at + 1;
	}
	if (**at)
		*(*at)++ = 0;
	return count;
}

/* Looks a user up in /etc/passwd, by name or by number: passwd(5). */
static struct user find_user(const char *wanted)
{
	int is_number = *wanted >= '0' && *wanted <= '9';
	struct user found = {number_of(wanted, 10), number_of(wanted, 10), wanted, "/"};
	char *at = file, *fields[7];

	read_file("/etc/passwd");
	while (*at) {
		if (next_line(&at, fields, 7) < 6)
			continue;
		if (is_number ? number_of(fields[2], 10) != found.uid : !equal(fields[0], wanted))
			continue;
		return (struct user){number_of(fields[2], 10), number_of(fields[3], 10), fields[0],
				     fields[5]};
	}
	if (!is_number)
		fail(126, wanted, "no such user in /etc/passwd of the root of the test");
	return found;
}

/* Sets a variable of the environment, given as NAME=VALUE. */
static void set_text(char *text)
{
	unsigned long at = 0;

	for (; variables[at]; at++) {
		const char *one = text, *other = variables[at];

		while (*one == *other && *one != '=' && *one)
			one++, other++;
		if (*one == '=' && *other == '=')
			break;
	}
	if (at < VARIABLES + SETTINGS)
		variables[at] = text;
}

static void set_variable(const char *name, const char *value)
{
	static char texts[4][PATH_BYTES];
	static int used;
	unsigned long size = length(name);
	char *text = texts[used++];

	if (size + length(value) + 2 > PATH_BYTES)
		return;
	memcpy(text, name, size);
	text[size] = '=';
	memcpy(text + size + 1, value, length(value) + 1);
	set_text(text);
}

static const char *variable(const char *name)
{
	for (char **at = variables; *at; at++) {
		const char *one = name, *other = *at;

		while (*one && *one == *other)
			one++, other++;
		if (!*one && *other == '=')
			return other + 1;
	}
	return "";
}

static void set_groups(const struct user *user)
{
	static char name[256];
	unsigned int groups[GROUPS] = {user->gid};
	int count = 1;
	char *at = file, *fields[4];

	/* `file` is about to be overwritten. */
	if (length(user->name) >= sizeof(name))
		return;
	memcpy(name, user->name, length(user->name) + 1);
	read_file("/etc/group");
	while (*at) {
		if (next_line(&at, fields, 4) < 4)
			continue;
		for (char *member = fields[3]; *member && count < GROUPS;) {
			char *end = member;
			int last;

			while (*end && *end != ',')
				end++;
			last = !*end;
			*end = 0;
			if (equal(member, name))
				groups[count++] = number_of(fields[2], 10);
			member = last ? end : end + 1;
		}
	}
	require(system_call(SYS_setgroups, count, (long)groups, 0, 0), name,
		"no right to its groups");
}

/* Sets the permitted, the effective and the inheritable capabilities: capset(2). */
static void set_capabilities(unsigned long mask)
{
	unsigned int header[2] = {CAPABILITY_VERSION_3, 0};
	unsigned int low = mask, high = mask >> 32;
	unsigned int sets[6] = {low, low, low, high, high, high};

	require(system_call(SYS_capset, (long)header, (long)sets, 0, 0), "capabilities",
		"can't be set; does the kernel have them?");
}

/* Returns the mask of the capabilities that the kernel has. */
static unsigned long known_capabilities(void)
{
	unsigned long mask = 0;

	for (int at = 0;
	     at < CAPABILITIES && system_call5(SYS_prctl, PR_CAPBSET_READ, at, 0, 0, 0) >= 0; at++)
		mask |= 1UL << at;
	return mask;
}

/* Becomes the user, with only the capabilities that were asked for: a process of another user than
 * root keeps them through execve(2) as ambient ones, and root what the bounding set has.
 */
static void become_user(const struct user *user)
{
	unsigned long uid = user->uid, gid = user->gid;

	if (has_capabilities)
		for (int at = 0; at < CAPABILITIES; at++)
			if (!(capabilities >> at & 1))
				system_call5(SYS_prctl, PR_CAPBSET_DROP, at, 0, 0, 0);
	if (user_name) {
		set_variable("USER", user->name);
		set_variable("LOGNAME", user->name);
		set_variable("HOME", user->home);
		set_groups(user);
		system_call5(SYS_prctl, PR_SET_KEEPCAPS, has_capabilities, 0, 0, 0);
		require(system_call(SYS_setresgid, gid, gid, gid, 0), user_name,
			"no right to its group");
		require(system_call(SYS_setresuid, uid, uid, uid, 0), user_name,
			"no right to become it");
	}
	if (!has_capabilities)
		return;
	set_capabilities(capabilities);
	for (int at = 0; uid && at < CAPABILITIES; at++)
		if (capabilities >> at & 1)
			require(system_call5(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, at, 0,
					     0),
				"capabilities", "can't be kept");
}

static void write_file(const char *path, const char *text)
{
	long descriptor = system_call(SYS_openat, AT_FDCWD, (long)path, O_WRONLY, 0);

	require(system_call(SYS_write, descriptor, (long)text, length(text), 0), path,
		"can't be written");
	system_call(SYS_close, descriptor, 0, 0, 0);
}

/* Gives the user namespace of a process all users and groups, under their own numbers. */
static void map_users(long process)
{
	static const char *names[] = {"/uid_map", "/gid_map"};
	char digits[24], path[64] = "/proc/";
	const char *digit = decimal(process, digits + sizeof(digits) - 1);

	for (int at = 0; at < 2; at++) {
		memcpy(path + 6, digit, length(digit));
		memcpy(path + 6 + length(digit), names[at], length(names[at]) + 1);
		write_file(path, "0 0 4294967295");
	}
}

static void configure(long context, const char *key, const char *value)
{
	require(system_call5(SYS_fsconfig, context, FSCONFIG_SET_STRING, (long)key, (long)value, 0),
		"a BPF token", "the kernel has none (they came with 6.9)");
}

/* Makes the bpffs of a user namespace. Only a process outside of it, with CAP_SYS_ADMIN, may say
 * what is delegated: bpf_token_create in kernel/bpf/token.c, and bpf_parse_param in
 * kernel/bpf/inode.c.
 */
static void make_bpffs(long context, const struct user *user)
{
	char digits[24], *end = digits + sizeof(digits) - 1;

	configure(context, "delegate_cmds", "any");
	configure(context, "delegate_maps", "any");
	configure(context, "delegate_progs", "any");
	configure(context, "delegate_attachs", "any");
	configure(context, "uid", decimal(user->uid, end));
	configure(context, "gid", decimal(user->gid, end));
	require(system_call5(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0), "a bpffs",
		"can't be made for a user namespace");
}

/* Enters a user namespace whose bpffs delegates all of bpf(2). A child, which shares the
 * descriptors and stays outside, does what the namespace has no right to.
 */
static void enter_token_namespace(const struct user *user)
{
	long context = -1, mount, child, process = system_call(SYS_getpid, 0, 0, 0, 0);
	int ends[2], status = -1;

	require(system_call(SYS_pipe2, (long)ends, 0, 0, 0), "a pipe", "can't be made");
	child = clone_process(CLONE_FILES | SIGCHLD);
	require(child, "a process", "can't be made");
	if (!child) {
		system_call(SYS_read, ends[0], (long)&context, sizeof(context), 0);
		map_users(process);
		make_bpffs(context, user);
		system_call(SYS_exit, 0, 0, 0, 0);
	}
	require(system_call(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS, 0, 0, 0), "a user namespace",
		"can't be made");
	context = system_call(SYS_fsopen, (long)"bpf", 0, 0, 0);
	require(context, "a bpffs", "can't be opened");
	system_call(SYS_write, ends[1], (long)&context, sizeof(context), 0);
	system_call(SYS_wait4, child, (long)&status, 0, 0);
	if (status)
		system_call(SYS_exit, 126, 0, 0, 0); /* the child has said why */
	mount = system_call(SYS_fsmount, context, 0, 0, 0);
	require(mount, "a bpffs", "can't be mounted");
	require(system_call5(SYS_move_mount, mount, (long)"", AT_FDCWD, (long)"/sys/fs/bpf",
			     MOVE_MOUNT_F_EMPTY_PATH),
		"/sys/fs/bpf", "can't be mounted");
	system_call(SYS_close, mount, 0, 0, 0);
	system_call(SYS_close, context, 0, 0, 0);
	system_call(SYS_close, ends[0], 0, 0, 0);
	system_call(SYS_close, ends[1], 0, 0, 0);
	if (!has_capabilities) {
		has_capabilities = 1;
		capabilities = known_capabilities();
	}
}

static void set_limits(void)
{
	for (int at = 0; at < limits; at++) {
		int none = limit_values[at][0] == '-';
		unsigned long value = none ? ~0UL : number_of(limit_values[at], 10);
		unsigned long both[2] = {value, value};

		require(system_call(SYS_prlimit64, 0, number_of(limit_numbers[at], 10), (long)both,
				    0),
			"a resource limit", "can't be set");
	}
}

/* Executes a file; a script without a first line that names its interpreter is one for sh. */
static long execute(const char *path, char **words)
{
	long result = system_call(SYS_execve, (long)path, (long)words, (long)variables, 0);
	char *shell[VARIABLES] = {"/bin/sh", (char *)path};

	if (result != -ENOEXEC)
		return result;
	for (int at = 1; words[at] && at < VARIABLES - 2; at++)
		shell[at + 1] = words[at];
	return system_call(SYS_execve, (long)"/bin/sh", (long)shell, (long)variables, 0);
}

/* Executes a command as execvp(3) does; returns an error number with a minus sign. */
static long execute_in_path(char **words)
{
	static char path[PATH_BYTES];
	const char *folders = variable("PATH"), *name = words[0];
	unsigned long size = length(name);
	long found = -ENOENT;

	for (const char *at = name; *at; at++)
		if (*at == '/')
			return execute(name, words);
	while (*folders) {
		unsigned long part = 0;
		long result;

		while (folders[part] && folders[part] != ':')
			part++;
		if (part && part + size + 2 <= sizeof(path)) {
			memcpy(path, folders, part);
			path[part] = '/';
			memcpy(path + part + 1, name, size + 1);
			result = execute(path, words);
			if (result != -ENOENT && result != -ENOTDIR)
				found = result;
		}
		folders += part + (folders[part] == ':');
	}
	return found;
}

/* Reads the words up to `--`, and returns the command behind it. */
static char **read_words(char **words)
{
	for (; *words && !equal(*words, "--"); words++) {
		if (equal(*words, "root")) {
			root = *++words;
		} else if (equal(*words, "bind") && binds < BINDS) {
			bind_names[binds] = *++words;
			bind_targets[binds++] = *++words;
		} else if (equal(*words, "folder")) {
			folder = *++words;
		} else if (equal(*words, "terminal")) {
			has_terminal = 1;
		} else if (equal(*words, "limit") && limits < LIMITS) {
			limit_numbers[limits] = *++words;
			limit_values[limits++] = *++words;
		} else if (equal(*words, "capabilities")) {
			has_capabilities = 1;
			capabilities = number_of(*++words, 16);
		} else if (equal(*words, "user")) {
			user_name = *++words;
		} else if (equal(*words, "token")) {
			has_token = 1;
		} else if (equal(*words, "env") && settings_count < SETTINGS) {
			settings[settings_count++] = *++words;
		} else {
			fail(126, *words, "start-test does not know this word");
		}
	}
	if (!words[0] || !words[1])
		fail(126, "start-test", "no command");
	return words + 1;
}

int main(int count, char **words)
{
	char **environment = words + count + 1, **command = read_words(words + 1);
	struct user user = {0, 0, "root", "/root"};
	long error;

	for (int at = 0; environment[at] && at < VARIABLES; at++)
		variables[at] = environment[at];
	system_call(SYS_setsid, 0, 0, 0, 0);
	if (has_terminal)
		system_call(SYS_ioctl, 0, TIOCSCTTY, 0, 0);
	if (root || binds) {
		enter_namespace();
		mount_all();
	}
	if (!folder || system_call(SYS_chdir, (long)folder, 0, 0, 0) < 0)
		system_call(SYS_chdir, (long)(folder = "/"), 0, 0, 0);
	set_variable("PWD", folder);
	set_limits();
	if (user_name)
		user = find_user(user_name);
	if (has_token)
		enter_token_namespace(&user);
	become_user(&user);
	for (int at = 0; at < settings_count; at++)
		set_text(settings[at]);
	error = execute_in_path(command);
	if (error == -ENOENT || error == -ENOTDIR)
		fail(127, command[0], "not found");
	fail(126, command[0],
	     error == -EACCES ? "it can't be executed: no permission" : "it can't be executed");
}
