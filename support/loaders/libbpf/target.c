// SPDX-License-Identifier: Apache-2.0
// What a program of freplace replaces: a function of a program that is loaded. It is looked for in
// the same object, and then in the others of the job.

#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "loader.h"

/* A program that was loaded to be extended. */
struct target {
	char *function;
	int fd;
	struct target *next;
};

static struct target *targets;

void targets_close(void)
{
	while (targets) {
		struct target *next = targets->next;

		close(targets->fd);
		free(targets->function);
		free(targets);
		targets = next;
	}
}

static int load_target(struct session *session, int index)
{
	json_t *failure = NULL;
	struct bpf_object *obj = session_prepare(session, index, &failure);
	int fd;

	json_decref(failure);
	if (!obj)
		return -1;
	fd = bpf_program__clone(program_at(obj, index), NULL);
	return fd < 0 ? -1 : fd;
}

/* Load the first program of an object that has a function. `seen` is set if one has it. */
static int search_object(const char *path, struct session *like, const char *function, bool *seen)
{
	json_t *failure = NULL;
	struct session *session = session_open(path, like->set, like->map_sizes, &failure);
	struct elf_uses *uses = session ? session_uses(session) : NULL;
	struct bpf_object *obj;
	int fd = -1, index = 0;

	json_decref(failure);
	failure = NULL;
	if (session) {
		session->is_target = true;
		session_learn(session, like);
	}
	obj = uses ? session_object(session, ALL, &failure) : NULL;
	for (; obj && fd < 0; index++) {
		struct bpf_program *program = program_at(obj, index);

		if (!program)
			break;
		if (bpf_program__type(program) == BPF_PROG_TYPE_EXT ||
		    !elf_has_function(uses, bpf_program__section_name(program),
				      bpf_program__name(program), function))
			continue;
		*seen = true;
		fd = load_target(session, index);
	}
	json_decref(failure);
	bpf_object__close(obj);
	session_close(session);
	return fd;
}

static int find_target(struct session *session, const char *function, bool *seen)
{
	struct target *target;
	const char *path;
	int fd;

	for (target = targets; target; target = target->next) {
		if (strcmp(target->function, function) == 0)
			return target->fd;
	}
	fd = search_object(session->file->path, session, function, seen);
	for (size_t i = 0; fd < 0 && (path = object_path(i)); i++) {
		if (strcmp(path, session->file->path) != 0)
			fd = search_object(path, session, function, seen);
	}
	if (fd < 0)
		return fd;
	target = calloc(1, sizeof(*target));
	*target = (struct target){strdup(function), fd, targets};
	targets = target;
	return fd;
}

json_t *target_set(struct session *session, struct bpf_program *program)
{
	const char *function = section_target(program);
	json_t *failure;
	bool seen = false;
	int fd, error;

	if (!function) {
		failure = failure_json("target", EINVAL);
		failure_missing(failure, "target-program", "");
		failure_say(failure, "the section names no function to replace");
		return failure;
	}
	fd = find_target(session, function, &seen);
	words_clear(); // what was said is about other objects
	if (fd < 0) {
		failure = failure_json("target", seen ? EINVAL : ENOENT);
		failure_missing(failure, "target-program", function);
		failure_say(failure,
			    seen ? "no program with the function %s can be loaded"
				 : "no program of the given objects has the function %s",
			    function);
		return failure;
	}
	error = bpf_program__set_attach_target(program, fd, function);
	if (!error)
		return NULL;
	failure = failure_json("target", error);
	failure_say(failure, "the function %s can't be replaced: %s", function, error_name(error));
	return failure;
}
