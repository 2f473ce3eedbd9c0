/* SPDX-License-Identifier: Apache-2.0
 *
 * capture-output: runs a test with a pipe as its output, and copies that to its own standard
 * output.
 *
 *     capture-output CGROUP LEADER COMMAND [ARGUMENT]...
 *
 * CGROUP is the file cgroup.procs of the cgroup that the test is in, and LEADER a file that gets
 * the id of its first process. When that process has ended, and core files are sent, all others of
 * the guest but init and this one are killed, and the rest of the output is copied. The exit status
 * is that of the command, or 128 plus the number of the signal that killed it.
 *
 * The host's port for the output can be opened only once; the two ends of a pipe can be opened
 * again as /dev/stdout and /dev/stderr, as scripts do. This process stays out of the cgroup of the
 * test, and is the one that kills: whatever a test has started, all of its output is here when it
 * is gone.
 */
#include "guest.h"

enum {
	/* include/uapi/asm-generic/fcntl.h, signal.h and poll.h, and linux/wait.h, of the kernel */
	O_CLOEXEC = 02000000,
	SIG_BLOCK = 0,
	SIG_UNBLOCK = 1,
	SIGKILL = 9,
	SIGCHLD = 17,
	POLLIN = 1,
	WNOHANG = 1,
	EINTR = 4,
	PIPE_MODE = 0666,
	/* How long a process may take to end after it was killed, with its end of the pipe open. */
	LAST_SECONDS = 2,
	/* Of 10 ms each. */
	CORE_PAUSES = 2000,
	BUFFER_BYTES = 1 << 16
};

struct waited {
	int descriptor;
	short wanted, found;
};

static char buffer[BUFFER_BYTES];
static const unsigned long child_signal = 1UL << (SIGCHLD - 1);

static unsigned long length(const char *text)
{
	unsigned long size = 0;

	while (text[size])
		size++;
	return size;
}

static void write_all(long descriptor, const char *bytes, long size)
{
	while (size > 0) {
		long written = system_call(SYS_write, descriptor, (long)bytes, size, 0);

		if (written == -EINTR)
			continue;
		if (written <= 0)
			return;
		bytes += written;
		size -= written;
	}
}

static void write_file(const char *path, const char *text)
{
	long descriptor = system_call(SYS_openat, AT_FDCWD, (long)path, O_WRONLY | O_CREAT, 0600);

	write_all(descriptor, text, length(text));
	system_call(SYS_close, descriptor, 0, 0, 0);
}

static void write_number(const char *path, unsigned long number)
{
	char digits[24], *at = digits + sizeof(digits) - 1;

	*at = 0;
	*--at = '\n';
	do
		*--at = '0' + number % 10;
	while (number /= 10);
	write_file(path, at);
}

/* Copies what a pipe has now; returns 0 at its end. */
static int copy(long from)
{
	long size = system_call(SYS_read, from, (long)buffer, sizeof(buffer), 0);

	if (size > 0)
		write_all(1, buffer, size);
	return size > 0 || size == -EINTR;
}

static int is_readable(long descriptor, long seconds)
{
	struct waited one = {.descriptor = descriptor, .wanted = POLLIN};
	long time[2] = {seconds, 0};

	return system_call5(SYS_ppoll, (long)&one, 1, (long)time, 0, 0) > 0;
}

/* Copies the output until a process ends; returns its status as wait(2) gives it. */
static int copy_until_end(long pipe, long signals, long process)
{
	struct waited both[] = {{.descriptor = pipe, .wanted = POLLIN},
				{.descriptor = signals, .wanted = POLLIN}};
	int status = 0;

	for (;;) {
		if (system_call5(SYS_ppoll, (long)both, 2, 0, 0, 0) < 0)
			continue;
		if (both[0].found && !copy(pipe))
			both[0].descriptor = -1; /* no process has the other end open */
		if (!both[1].found)
			continue;
		system_call(SYS_read, signals, (long)buffer, sizeof(buffer), 0);
		if (system_call(SYS_wait4, process, (long)&status, WNOHANG, 0) == process)
			return status;
	}
}

/* Returns the number of lines in a file, or 0 if there is none. */
static int lines(const char *path)
{
	long descriptor = system_call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY, 0), size;
	int found = 0;

	while ((size = system_call(SYS_read, descriptor, (long)buffer, sizeof(buffer), 0)) > 0)
		for (long at = 0; at < size; at++)
			found += buffer[at] == '\n';
	system_call(SYS_close, descriptor, 0, 0, 0);
	return found;
}

/* Waits until core-to-host has sent the core files of processes that have died. */
static void wait_for_core_files(void)
{
	const long pause[2] = {0, 10000000};

	for (int pauses = 0; pauses < CORE_PAUSES; pauses++) {
		if (lines("/run/cores.ended") >= lines("/run/cores.started"))
			return;
		system_call(SYS_nanosleep, (long)pause, 0, 0, 0);
	}
}

static void start(char **words, char **environment, const int *ends, const char *cgroup)
{
	write_file(cgroup, "0");
	system_call(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&child_signal, 0, sizeof(child_signal));
	system_call(SYS_dup3, ends[1], 1, 0, 0);
	system_call(SYS_dup3, ends[1], 2, 0, 0);
	system_call(SYS_execve, (long)words[0], (long)words, (long)environment, 0);
	system_call(SYS_exit, 126, 0, 0, 0);
}

int main(int count, char **words)
{
	int ends[2], status;
	long signals, child;

	if (count < 4 || system_call(SYS_pipe2, (long)ends, O_CLOEXEC, 0, 0) < 0)
		return 126;
	/* A test may be of another user. */
	system_call(SYS_fchmod, ends[0], PIPE_MODE, 0, 0);
	system_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&child_signal, 0, sizeof(child_signal));
	signals = system_call(SYS_signalfd4, -1, (long)&child_signal, sizeof(child_signal),
			      O_CLOEXEC);
	child = clone_process(SIGCHLD);
	if (!child)
		start(words + 3, words + count + 1, ends, words[1]);
	if (child < 0 || signals < 0)
		return 126;
	write_number(words[2], child);
	write_file("/proc/self/oom_score_adj", "-1000");
	system_call(SYS_close, ends[1], 0, 0, 0);
	status = copy_until_end(ends[0], signals, child);
	wait_for_core_files();
	system_call(SYS_kill, -1, SIGKILL, 0, 0);
	while (is_readable(ends[0], LAST_SECONDS) && copy(ends[0]))
		;
	return status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
}
