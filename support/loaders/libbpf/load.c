// SPDX-License-Identifier: Apache-2.0
// Loading a program: by bpf_program__clone, from the object that was prepared once. Where only
// libbpf's own way tells more, the program is loaded once more in that way: alone.

#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "loader.h"

// Of the verifier's log level, in include/linux/bpf_verifier.h: BPF_LOG_LEVEL1, 2 and
// BPF_LOG_STATS.
#define LOG_PATH  1
#define LOG_ALL	  2
#define LOG_STATS 4

// What libbpf puts in the place of instructions that it can't relocate: calls of helpers with these
// numbers (or that begin with them), which no kernel has.
#define BAD_RELOCATION	 "unknown#195896080"
#define MISSING_MAP	 "unknown#200100"
#define MISSING_FUNCTION "unknown#2002"
#define MISSING_MAP_BASE 2001000000 // and the number of the map
// Above the numbers of all helpers, and below those.
#define MAX_HELPER 10000

static int log_level(const char *log)
{
	if (strcmp(log, "all") == 0)
		return LOG_ALL | LOG_STATS;
	return strcmp(log, "path") == 0 ? LOG_PATH | LOG_STATS : LOG_STATS;
}

static json_t *result_of_failure(json_t *failure)
{
	return json_pack("{s:b, s:o}", "loaded", 0, "failure", failure);
}

/* The target that a section names, if the kernel's BTF has none of this name. */
static void add_missing_target(json_t *failure, const struct bpf_program *program)
{
	const char *target = section_target(program);
	const char *colon = target ? strchr(target, ':') : NULL;
	char *module, *path = NULL;
	bool loaded;

	if (!words_contain("failed to find kernel BTF type ID"))
		return;
	if (!colon) {
		failure_missing(failure, "target", target ? target : "");
		return;
	}
	module = strndup(target, colon - target);
	loaded = asprintf(&path, "/sys/kernel/btf/%s", module) > 0 && access(path, F_OK) == 0;
	if (loaded)
		failure_missing(failure, "target", target);
	else
		failure_missing(failure, "module", module);
	free(module);
	free(path);
}

/* Whether the verifier did not say why: some kernels write statistics all the same. */
static bool tells_nothing(const char *log)
{
	return !log[0] || strncmp(log, "verification time ", strlen("verification time ")) == 0;
}

/* Errors that a kernel may give for a program type that it does not have. */
static bool may_mean_type(int error, const char *log)
{
	return tells_nothing(log) &&
	       (error == EINVAL || error == EOPNOTSUPP || error == 524 || error == E2BIG);
}

/* A helper for one of the types that can be probed; for tracing and the like, libbpf has no probe.
 */
static bool has_helper(enum bpf_prog_type type, int helper)
{
	int probed = libbpf_probe_bpf_helper(type, helper, NULL);

	if (probed >= 0)
		return probed;
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, helper, NULL) ||
	       libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, helper, NULL);
}

static struct bpf_map *map_number(struct bpf_object *obj, int number)
{
	struct bpf_map *map = NULL;

	do
		map = bpf_object__next_map(obj, map);
	while (map && number--);
	return map;
}

/* What a program lacks that the kernel refused before it looked at the code: a map, then the result
 * is why it can't be made; or a helper. Kernels before 5.13 do not know the address of a function,
 * which helpers such as bpf_for_each_map get, and complain of the number of functions. */
static json_t *find_missing(struct session *session, json_t *failure, struct bpf_object *obj,
			    struct bpf_program *program, bool maybe_helper)
{
	const struct bpf_insn *code = bpf_program__insns(program);
	char number[16];

	for (size_t i = 0; i < bpf_program__insn_cnt(program); i++) {
		struct bpf_map *map = NULL;
		json_t *why;

		if (code[i].code != (BPF_JMP | BPF_CALL) || code[i].src_reg)
			continue;
		if (code[i].imm >= MISSING_MAP_BASE)
			map = map_number(obj, code[i].imm - MISSING_MAP_BASE);
		why = map ? json_object_get(session->maps_off, bpf_map__name(map)) : NULL;
		if (why) {
			json_decref(failure);
			return json_incref(why);
		}
		if (!maybe_helper || code[i].imm >= MAX_HELPER ||
		    has_helper(bpf_program__type(program), code[i].imm))
			continue;
		snprintf(number, sizeof(number), "%d", code[i].imm);
		failure_missing(failure, "helper", number);
		break;
	}
	return failure;
}

/* Kernels take only these characters in the name of a program (kernel/bpf/syscall.c:
 * bpf_obj_name_cpy). */
static bool is_plain_name(const char *name)
{
	for (; *name; name++) {
		if (!isascii(*name) || !(isalnum(*name) || *name == '_' || *name == '.'))
			return false;
	}
	return true;
}

static json_t *failure_to_load(struct session *session, struct bpf_object *obj,
			       struct bpf_program *program, int error, const char *log)
{
	struct load_call call = load_call_last();
	bool supported = true;
	json_t *failure;
	char *name;

	if (!call.made) {
		failure = failure_json("target", error);
		if (bpf_program__type(program) == BPF_PROG_TYPE_UNSPEC) {
			json_object_set_new(failure, "step", json_string("open"));
			failure_missing(failure, "section", bpf_program__section_name(program));
		}
		add_missing_target(failure, program);
		return failure;
	}
	failure = failure_json("load", call.error);
	if (!is_plain_name(bpf_program__name(program)) && tells_nothing(log))
		failure_say(failure, "the kernel takes only letters, digits, _ and . of ASCII in "
				     "the name of a program");
	failure_say(failure, "libbpf: prog '%s': BPF program load failed: -%s",
		    bpf_program__name(program), error_name(call.error));
	if (may_mean_type(call.error, log)) {
		supported =
			is_supported(libbpf_probe_bpf_prog_type(bpf_program__type(program), NULL));
		json_object_set_new(failure, "type_supported", json_boolean(supported));
	}
	if ((supported && tells_nothing(log)) ||
	    strstr(log, "number of funcs in func_info doesn't match"))
		failure = find_missing(session, failure, obj, program, !tells_nothing(log));
	name = between(log, "failed to resolve CO-RE relocation ", "\n");
	if (name) {
		// <byte_off> [12] struct task_struct.state (0:1 @ offset 8)
		char *start = strstr(name, "] ");

		name[strcspn(name, "(")] = '\0';
		while (*name && name[strlen(name) - 1] == ' ')
			name[strlen(name) - 1] = '\0';
		json_object_set_new(failure, "step", json_string("relocate"));
		failure_missing(failure, "type", start ? start + 2 : name);
		free(name);
		return failure;
	}
	name = between(log, "kfunc '", "' is referenced but wasn't resolved");
	if (name) {
		json_object_set_new(failure, "step", json_string("relocate"));
		failure_missing(failure, "kfunc", name);
		free(name);
		return failure;
	}
	name = between(log, "BPF map '", "' is referenced but wasn't created");
	if (name) {
		json_t *why = json_object_get(session->maps_off, name);

		json_object_set_new(failure, "step", json_string("map"));
		free(name);
		if (why) {
			json_decref(failure);
			return json_incref(why);
		}
	}
	return failure;
}

static void add_log(json_t *result, const char *log)
{
	if (log[0])
		json_object_set_new(result, "log", text_json(log));
}

/* Which log libbpf needs to tell what is at fault with instructions that it could not relocate. It
 * looks for them in the last ten lines: the path has to be there, and statistics, which have a line
 * for each function from 7.3 on, have not. */
static int log_level_of_poisoned(const char *log)
{
	return log_level(log) == (LOG_ALL | LOG_STATS) ? LOG_ALL : LOG_PATH;
}

/* Load a program in libbpf's own way: alone, in an object of its own. */
static json_t *load_alone(struct session *session, int index, const char *log, int level)
{
	json_t *failure = NULL, *result;
	struct bpf_object *obj = session_object(session, index, &failure);
	struct bpf_program *program;
	size_t size;
	char *buffer = log_buffer(&size);
	int error;

	if (!obj)
		return result_of_failure(failure);
	program = program_at(obj, index);
	if (bpf_program__type(program) == BPF_PROG_TYPE_EXT)
		failure = target_set(session, program);
	if (failure) {
		bpf_object__close(obj);
		return result_of_failure(failure);
	}
	bpf_program__set_log_level(program, level);
	bpf_program__set_log_buf(program, buffer, size);
	words_clear();
	load_call_clear();
	error = bpf_object__load(obj);
	if (error && !load_call_last().error && load_call_last().made)
		error = 0; // what failed comes after loading, such as filling an array of programs
	result = json_pack("{s:b, s:f}", "loaded", !error, "seconds", load_call_last().seconds);
	if (error)
		json_object_set_new(result, "failure",
				    failure_to_load(session, obj, program, error, buffer));
	else if (bpf_program__fd(program) >= 0)
		report_program(result, program, bpf_program__fd(program));
	add_log(result, buffer);
	if (error && log_level(log) != LOG_STATS)
		report_lines(result, obj, program);
	bpf_object__close(obj);
	return result;
}

static bool needs_own_way(struct bpf_program *program)
{
	return bpf_program__type(program) == BPF_PROG_TYPE_UNSPEC ||
	       !bpf_program__insn_cnt(program);
}

static bool is_poisoned(const char *log)
{
	return strstr(log, BAD_RELOCATION) || strstr(log, MISSING_MAP) ||
	       strstr(log, MISSING_FUNCTION);
}

/* libbpf does not load such a program, and says why. The kernel knows no type for it: 524 is
 * ENOTSUPP. */
static bool is_unused_struct_ops(struct bpf_program *program, const char *log)
{
	return bpf_program__type(program) == BPF_PROG_TYPE_STRUCT_OPS && tells_nothing(log) &&
	       load_call_last().error == 524;
}

static json_t *load_prepared(struct session *session, int index, const char *log)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts);
	json_t *failure = NULL, *result;
	struct bpf_object *obj = session_prepare(session, index, &failure);
	struct bpf_program *program = obj ? program_at(obj, index) : NULL;
	size_t size;
	int fd;

	if (!program)
		return result_of_failure(failure);
	failure = session_refusal(session, program);
	if (!failure && bpf_program__type(program) == BPF_PROG_TYPE_EXT)
		failure = target_set(session, program);
	if (failure)
		return result_of_failure(failure);
	if (needs_own_way(program))
		return load_alone(session, index, log,
				  log_level(log) == LOG_STATS ? LOG_STATS | LOG_PATH
							      : log_level(log));

	opts.log_buf = log_buffer(&size);
	opts.log_size = size;
	opts.log_level = log_level(log);
	words_clear();
	load_call_clear();
	fd = bpf_program__clone(program, &opts);
	if (fd < 0 && is_poisoned(opts.log_buf))
		return load_alone(session, index, log, log_level_of_poisoned(log));
	if (fd < 0 && is_unused_struct_ops(program, opts.log_buf))
		return load_alone(session, index, log, log_level(log));
	result = json_pack("{s:b, s:f}", "loaded", fd >= 0, "seconds", load_call_last().seconds);
	if (fd < 0) {
		json_object_set_new(result, "failure",
				    failure_to_load(session, obj, program, fd, opts.log_buf));
		report_instructions(result, program);
	} else {
		report_program(result, program, fd);
		close(fd);
	}
	add_log(result, opts.log_buf);
	if (opts.log_level != LOG_STATS)
		report_lines(result, obj, program);
	return result;
}

static void add_note(struct session *session, int index, json_t *result)
{
	struct bpf_program *program =
		session->prepared ? program_at(session->prepared, index) : NULL;

	if (session->note)
		json_object_set(result, "note", session->note);
	else if (program && bpf_program__type(program) == BPF_PROG_TYPE_EXT)
		json_object_set_new(result, "note",
				    json_string("loaded for the function that its section names: "
						"with libbpf, the project says which program has "
						"it"));
	else if (program && json_object_get(session->typed, bpf_program__name(program)))
		json_object_set_new(result, "note",
				    json_string("loaded with the type of the program that calls "
						"it: its section has none"));
}

json_t *load_program(struct session *session, int program, const char *log)
{
	json_t *result;

	words_clear();
	result = load_prepared(session, program, log);
	add_note(session, program, result);
	log_buffer_release();
	return result;
}
