// SPDX-License-Identifier: Apache-2.0
// The loader for libbpf: it reads requests, and answers them (docs/loaders.md).

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "loader.h"

#define REPLIES 3 // the descriptor that replies go to

static FILE *replies;
static struct session *session;

void reply(json_t *value)
{
	if (json_dumpf(value, replies, JSON_COMPACT) || fputc('\n', replies) == EOF ||
	    fflush(replies)) {
		fprintf(stderr, "can't write a reply: %s\n", strerror(errno));
		exit(1);
	}
	json_decref(value);
}

static void done(json_t *value)
{
	json_object_set_new(value, "done", json_true());
	reply(value);
}

static void start(json_t *request)
{
	struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
	const char *version = libbpf_version_string();

	setrlimit(RLIMIT_MEMLOCK, &unlimited); // kernels before 5.11 charge maps and programs to it
	objects_note(json_object_get(request, "objects"));
	done(json_pack("{s:s, s:s}", "loader", "libbpf", "version",
		       version[0] == 'v' ? version + 1 : version));
}

/* What the section names after the type, if it names what the program is attached to. */
static const char *attach_target(const struct bpf_program *program)
{
	const char *target = section_target(program);

	switch (bpf_program__type(program)) {
	case BPF_PROG_TYPE_KPROBE:
	case BPF_PROG_TYPE_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
	case BPF_PROG_TYPE_TRACING:
	case BPF_PROG_TYPE_LSM:
	case BPF_PROG_TYPE_EXT:
	case BPF_PROG_TYPE_STRUCT_OPS:
		return target ? target : "";
	default:
		return "";
	}
}

static const char *program_type(const struct bpf_program *program)
{
	const char *name = libbpf_bpf_prog_type_str(bpf_program__type(program));

	if (bpf_program__type(program) == BPF_PROG_TYPE_UNSPEC || !name)
		return "";
	return name;
}

static json_t *programs_json(struct bpf_object *obj)
{
	json_t *programs = json_array();
	struct bpf_program *program;

	bpf_object__for_each_program(program, obj)
	{
		// libbpf cuts the "?" off, and does not load such a program unless it is told to
		bool optional = !bpf_program__autoload(program);
		char section[512];

		snprintf(section, sizeof(section), "%s%s", optional ? "?" : "",
			 bpf_program__section_name(program));
		json_array_append_new(programs,
				      json_pack("{s:o, s:o, s:s, s:o, s:b}", "name",
						text_json(bpf_program__name(program)), "section",
						text_json(section), "type", program_type(program),
						"attach_to", text_json(attach_target(program)),
						"optional", optional));
	}
	return programs;
}

/* The names of the values that the object has a variable for. `problem` is set to a line for the
 * user if one can't have its value. */
static json_t *known_variables(struct bpf_object *obj, json_t *set, json_t **problem)
{
	json_t *known = json_array(), *text;
	const char *name, *why;

	json_object_foreach(set, name, text)
	{
		const char *value = json_string_value(text);
		int found = value ? set_variable(obj, name, value, &why) : 0;

		if (found)
			json_array_append_new(known, text_json(name));
		if (found < 0)
			*problem = json_sprintf("--set %s=%s: %s", name, value, why);
	}
	return known;
}

static json_t *known_maps(struct bpf_object *obj, json_t *sizes)
{
	json_t *known = json_array(), *size;
	const char *name;

	json_object_foreach(sizes, name, size)
	{
		if (bpf_object__find_map_by_name(obj, name))
			json_array_append_new(known, text_json(name));
	}
	return known;
}

static void open_object(json_t *request)
{
	const char *path = json_string_value(json_object_get(request, "object"));
	json_t *set = json_object_get(request, "set");
	json_t *sizes = json_object_get(request, "map_sizes");
	json_t *failure = NULL, *problem = NULL, *variables, *programs;

	session_close(session);
	targets_close();
	words_clear();
	session = session_open(path ? path : "", set, sizes, &failure);
	if (!session) {
		done(json_pack("{s:o}", "failure", failure));
		return;
	}
	programs = programs_json(session->fresh);
	variables = known_variables(session->fresh, set, &problem);
	if (problem) {
		json_decref(programs);
		json_decref(variables);
		done(json_pack("{s:o}", "usage", problem));
		return;
	}
	done(json_pack("{s:o, s:o, s:o}", "programs", programs, "set", variables, "map_sizes",
		       known_maps(session->fresh, sizes)));
}

/* The number of the program that a request names; a program that the object lacks is no program of
 * the supervisor's, and so a mistake of it. */
static int named_program(json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "program"));
	json_t *failure = NULL;
	struct bpf_object *obj;
	int index = -1;

	if (!session || !name) {
		fprintf(stderr, "no object is open, or the request names no program\n");
		exit(2);
	}
	obj = session->prepared ? session->prepared : session->fresh;
	if (obj)
		return program_index(obj, name);
	obj = session_object(session, ALL, &failure);
	if (obj)
		index = program_index(obj, name);
	session->fresh = obj;
	json_decref(failure);
	return index;
}

static json_t *for_program(json_t *request, bool attach)
{
	const char *log = json_string_value(json_object_get(request, "log"));
	int program = named_program(request);

	if (program < 0) {
		fprintf(stderr, "the object has no such program\n");
		exit(2);
	}
	return attach ? attach_program(session, program)
		      : load_program(session, program, log ? log : "stats");
}

static void answer(const char *line)
{
	json_error_t problem;
	json_t *request = json_loads(line, 0, &problem);
	const char *kind = json_string_value(json_object_get(request, "request"));

	if (!kind) {
		fprintf(stderr, "a request that is none: %s\n", problem.text);
		exit(2);
	}
	if (strcmp(kind, "start") == 0) {
		start(request);
	} else if (strcmp(kind, "open") == 0) {
		open_object(request);
	} else if (strcmp(kind, "load") == 0 || strcmp(kind, "attach") == 0) {
		done(json_pack("{s:o}", "result", for_program(request, kind[0] == 'a')));
	} else {
		fprintf(stderr, "an unknown request: %s\n", kind);
		exit(2);
	}
	json_decref(request);
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;

	replies = fdopen(REPLIES, "w");
	if (!replies) {
		fprintf(stderr, "descriptor %d, for replies, is not open\n", REPLIES);
		return 2;
	}
	words_listen();
	while (getline(&line, &room, stdin) > 0)
		answer(line);
	session_close(session);
	targets_close();
	return 0;
}
