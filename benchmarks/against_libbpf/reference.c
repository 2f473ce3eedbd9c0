// SPDX-License-Identifier: Apache-2.0
// What libbpf says about each program of object files, by its own bpf_object__load: the object is
// opened, that program alone is to be loaded, pinning is off. Nothing is repaired or left out.
//
//     reference JOBS LIMIT FILE...
//
// For each file, FILE.json is written, with one JSON object on each line: for each program
// `program`, `loaded`, `errno`, `words` (libbpf's warnings) and `log` (the last lines of the
// verifier's); or one line without `program` if the object can't be opened. `ended` tells of a
// program whose process did not finish in LIMIT seconds, or died.

#define _GNU_SOURCE
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/btf.h>
#include <bpf/libbpf.h>

// In bytes. The pages of the log are there only if the kernel writes to them.
#define LOG_SIZE  (512 << 20)
#define LOG_SHOWN 1500
#define MAX_WORDS 40
#define MAX_LINE  600

static json_t *words;

static json_t *text(const char *bytes)
{
	json_t *value = json_string(bytes);
	char *clean;

	if (value)
		return value;
	clean = strdup(bytes);
	for (char *c = clean; *c; c++) {
		if (*c & 0x80)
			*c = '?';
	}
	value = json_string(clean);
	free(clean);
	return value;
}

// The kernel's BTF is read once, for all processes: the linker has libbpf call these (--wrap).
struct btf *__real_btf__load_vmlinux_btf(void);
void __real_btf__free(struct btf *btf);

static struct btf *kernel_btf;

struct btf *__wrap_btf__load_vmlinux_btf(void)
{
	if (!kernel_btf)
		kernel_btf = __real_btf__load_vmlinux_btf();
	return kernel_btf;
}

void __wrap_btf__free(struct btf *btf)
{
	if (btf != kernel_btf)
		__real_btf__free(btf);
}

static int listen(enum libbpf_print_level level, const char *format, va_list args)
{
	char *message;

	if (level != LIBBPF_WARN || json_array_size(words) >= MAX_WORDS)
		return 0;
	if (vasprintf(&message, format, args) < 0)
		return 0;
	if (strlen(message) > MAX_LINE) // the kernel's log of BTF: the end tells
		json_array_append_new(words, text(message + strlen(message) - MAX_LINE));
	else
		json_array_append_new(words, text(message));
	free(message);
	return 0;
}

static void print(FILE *out, json_t *value)
{
	json_dumpf(value, out, JSON_COMPACT);
	fputc('\n', out);
	fflush(out);
}

static const char *end_of(const char *log)
{
	size_t size = strlen(log);
	const char *start = log + (size > LOG_SHOWN ? size - LOG_SHOWN : 0);

	while (start > log && start[-1] != '\n')
		start++;
	return start;
}

static void load(FILE *out, struct bpf_object *obj, struct bpf_program *program)
{
	char *log = mmap(NULL, LOG_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct bpf_program *other;
	struct bpf_map *map;
	int error;

	bpf_object__for_each_program(other, obj) bpf_program__set_autoload(other, other == program);
	bpf_object__for_each_map(map, obj) bpf_map__set_pin_path(map, NULL);
	if (log != MAP_FAILED)
		bpf_program__set_log_buf(program, log, LOG_SIZE);
	error = bpf_object__load(obj);
	print(out, json_pack("{s:o, s:b, s:i, s:O, s:o}", "program",
			     text(bpf_program__name(program)), "loaded", !error, "errno", -error,
			     "words", words, "log", text(log == MAP_FAILED ? "" : end_of(log))));
}

static void wait_for(FILE *out, pid_t child, const char *name)
{
	char end[64];
	int status;

	if (waitpid(child, &status, 0) < 0 || status == 0)
		return;
	if (WIFSIGNALED(status))
		snprintf(end, sizeof(end), "signal %d", WTERMSIG(status));
	else
		snprintf(end, sizeof(end), "status %d", WEXITSTATUS(status));
	print(out, json_pack("{s:o, s:b, s:s}", "program", text(name), "loaded", 0, "ended", end));
}

static int load_all(FILE *out, const char *path, int limit)
{
	struct bpf_object *obj = bpf_object__open_file(path, NULL);
	struct bpf_program *program;

	if (!obj) {
		print(out, json_pack("{s:i, s:O}", "errno", errno, "words", words));
		return 0;
	}
	bpf_object__for_each_program(program, obj)
	{
		// A copy of the process has a copy of the open object.
		pid_t child = fork();

		if (child < 0)
			return 1;
		if (child == 0) {
			alarm(limit);
			load(out, obj, program);
			_exit(0);
		}
		wait_for(out, child, bpf_program__name(program));
	}
	return 0;
}

static int answer(const char *path, int limit)
{
	char *part = NULL, *whole = NULL;
	FILE *out;
	int failed;

	if (asprintf(&part, "%s.part", path) < 0 || asprintf(&whole, "%s.json", path) < 0)
		return 1;
	words = json_array();
	out = fopen(part, "we");
	if (!out) {
		perror(part);
		return 1;
	}
	failed = load_all(out, path, limit);
	fclose(out);
	json_decref(words);
	// Only a file that is complete has its name.
	return failed || rename(part, whole);
}

int main(int argc, char **argv)
{
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	int *next = mmap(NULL, sizeof(*next), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			 -1, 0);
	int failed = 0, status;

	if (argc < 4 || next == MAP_FAILED)
		return 1;
	setrlimit(RLIMIT_MEMLOCK, &all); // kernels before 5.11 charge maps to it
	btf__load_vmlinux_btf();
	libbpf_set_print(listen);
	*next = 3;
	for (int job = 0; job < atoi(argv[1]); job++) {
		if (fork() == 0) {
			int file;

			while ((file = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < argc)
				failed |= answer(argv[file], atoi(argv[2]));
			_exit(failed);
		}
	}
	while (wait(&status) > 0)
		failed |= status;
	return failed != 0;
}
