// SPDX-License-Identifier: Apache-2.0

/* Tests execs.bpf.c, and reports in the Test Anything Protocol. */
#include <stdbool.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "execs.skel.h"

static int tests;

static void report(bool ok, const char *name)
{
	printf("%s %d %s\n", ok ? "ok" : "not ok", ++tests, name);
}

/* Starts a shell, which starts true in its place: two programs of one process. */
static pid_t start_two_programs(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", "exec /bin/true", NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
	return pid;
}

int main(void)
{
	__u32 self = getpid(), child;
	__u64 count = 0;

	printf("TAP version 13\n1..3\n");
	struct execs_bpf *skeleton = execs_bpf__open_and_load();

	report(skeleton && !execs_bpf__attach(skeleton), "on_exec is attached");
	if (!skeleton)
		return 1;
	struct bpf_map *execs = skeleton->maps.execs;

	child = start_two_programs();
	bpf_map__lookup_elem(execs, &child, sizeof(child), &count, sizeof(count), 0);
	report(count == 2, "a child's programs are counted");
	report(bpf_map__lookup_elem(execs, &self, sizeof(self), &count, sizeof(count), 0) ==
		       -ENOENT,
	       "a process that starts none is not there");
	execs_bpf__destroy(skeleton);
	return 0;
}
