/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loader for libbpf: see docs/loaders.md for what it is asked and what it answers.
 *
 * Failures, results and other parts of replies are values of jansson. A function that returns one
 * gives the reference to its caller.
 */
#ifndef LOADER_H
#define LOADER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

/* words.c: what libbpf says, and names for it */

/* Start to listen to libbpf, which then prints nothing. */
void words_listen(void);
/* Forget what was said. */
void words_clear(void);
/* All warnings since then, as an array of lines, in the order in which they came. */
json_t *words_json(void);
/* Those that name something, in quotation marks or parentheses. */
json_t *words_about(const char *name);
/* The last warning that begins with a text (behind "libbpf: "), or NULL. */
const char *words_last(const char *beginning);
/* Whether a warning contains a text. */
bool words_contain(const char *text);
/* The externs that libbpf did not find and left at zero, because they are weak. */
json_t *words_unresolved(void);
/* What the kernel said of the object's BTF, if it refused that and libbpf left it out; empty if the
 * kernel said nothing, NULL if it took the BTF. */
const char *words_btf_left_out(void);
/* What libbpf said about functions of struct_ops that the kernel lacks, and it left out. */
json_t *words_skipped(void);
/* A string of JSON; bytes that are not UTF-8 become question marks. */
json_t *text_json(const char *text);
/* What stands between the first `before` of a text and the next `after`; NULL if there is none.
 * The result is the caller's. */
char *between(const char *text, const char *before, const char *after);
/* The name of an error, such as "EINVAL": of the kernel, or of libbpf. */
const char *error_name(int error);

/* kernel.c: what stands between libbpf and the kernel */

/* What happened to the system call that loads a program. */
struct load_call {
	bool made; /* false: libbpf refused before it */
	int error; /* errno, or 0 */
	double seconds;
};

/* Forget the last call. Only calls with the buffer below count: libbpf's probes have another. */
void load_call_clear(void);
struct load_call load_call_last(void);
/* A buffer for the verifier's log, as large as any kernel takes. Its memory is used as it is
 * written. */
char *log_buffer(size_t *size);
/* Give the memory of the log's buffer back. */
void log_buffer_release(void);

/* What a probe of libbpf's for a type says. One that failed says nothing, unless libbpf does not
 * even know the type. */
bool is_supported(int probed);

/* elf_uses.c: which code of an object uses what */

struct elf_uses;

/* Read an object; NULL if it can't be read. The bytes must live as long as the result. */
struct elf_uses *elf_uses_read(const void *bytes, size_t size);
void elf_uses_free(struct elf_uses *uses);
/* Whether a program, or a function that it calls, refers to a symbol. */
bool elf_uses_symbol(const struct elf_uses *uses, const char *section, const char *program,
		     const char *symbol);
/* Whether a program is a function, or calls it; the function must be a global one. */
bool elf_has_function(const struct elf_uses *uses, const char *section, const char *program,
		      const char *function);
/* Whether a program refers to a map that has another one, the tail, among its values. */
bool elf_calls_tail(const struct elf_uses *uses, const char *section, const char *program,
		    const char *tail_section, const char *tail);
/* Whether an array of programs holds a program. */
bool elf_is_tail(const struct elf_uses *uses, const char *section, const char *program);
/* Whether a symbol is undefined and not weak. */
bool elf_is_strong(const struct elf_uses *uses, const char *symbol);
/* A copy of the object in which no undefined symbol is strong. The result is the caller's. */
void *elf_weakened(const struct elf_uses *uses);

/* values.c: values for global variables */

/* Set a global variable. Returns 1 if the object has it, 0 if not; -1 if the text can't be its
 * value: then `why` says what is expected. */
int set_variable(struct bpf_object *obj, const char *name, const char *text, const char **why);

/* object.c: opening objects, and preparing them for loading */

/* An object file. */
struct object_file {
	char *path;
	void *bytes;
	size_t size;
	struct elf_uses *uses;
};

/* The object that is open, with all that was found out about it on this kernel. */
struct session {
	struct object_file *file;
	json_t *set;
	json_t *map_sizes;
	bool weak;	     /* a strong extern is missing: all are weak now */
	bool config_unknown; /* the kernel's configuration is unknown */
	bool alone;	     /* the object can't be prepared as a whole */
	bool is_target;	     /* opened for a program that another object's program replaces */
	json_t *missing;     /* names of externs that the kernel lacks: their kind */
	json_t *typed;	     /* names of programs that got a type, which libbpf lacks */
	json_t *maps_off;    /* names of maps that can't be made: why */
	struct bpf_object *prepared;
	int prepared_for;	  /* which program, or ALL */
	json_t *note;		  /* what was left out to prepare the object, or NULL */
	json_t *skipped;	  /* what was said about programs that were left out */
	struct bpf_object *fresh; /* opened, and not used yet */
};

#define ALL (-1)

/* Which objects there are: `paths` is an array. */
void objects_note(json_t *paths);
/* Open an object for requests; a NULL result has a failure. */
struct session *session_open(const char *path, json_t *set, json_t *map_sizes, json_t **failure);
/* Take over what another session has found out, if it has the same object. */
void session_learn(struct session *session, const struct session *other);
void session_close(struct session *session);
/* The object as libbpf opens it, with all that the session has found out, only one of its programs
 * switched on (or ALL). The caller closes it. `failure` is set if there is none. */
struct bpf_object *session_object(struct session *session, int program, json_t **failure);
/* The open object, prepared for one program at least. NULL: `failure` says why. */
struct bpf_object *session_prepare(struct session *session, int program, json_t **failure);
/* Why a program can't be loaded, whatever its code is; NULL if nothing speaks against it. */
json_t *session_refusal(struct session *session, struct bpf_program *program);
/* Switch off all programs but one, and the maps of struct_ops that others would be needed for. */
void keep_only(struct bpf_object *obj, struct bpf_program *program, bool whole_maps);
/* The maps of struct_ops that have a program: the next one after `map`. */
struct bpf_map *next_struct_ops_map(struct bpf_object *obj, struct bpf_map *map,
				    struct bpf_program *program);
/* The objects of the job, one after the other; NULL behind the last. */
const char *object_path(size_t index);
struct elf_uses *session_uses(struct session *session);
struct bpf_program *program_at(struct bpf_object *obj, int index);
int program_index(struct bpf_object *obj, const char *name);
/* What a section names behind the type; NULL if nothing. */
const char *section_target(const struct bpf_program *program);

/* target.c: what freplace programs replace */

/* Tell a program of freplace which program to extend; returns a failure, or NULL. */
json_t *target_set(struct session *session, struct bpf_program *program);
/* Unload what was loaded to be extended. */
void targets_close(void);

/* load.c */

json_t *load_program(struct session *session, int program, const char *log);

/* attach.c */

json_t *attach_program(struct session *session, int program);

/* report.c: facts as JSON */

/* A failure at a step. `error` is an errno, positive or negative. It has the words so far. */
json_t *failure_json(const char *step, int error);
/* The same of a step that preparing an object failed at. */
json_t *failure_of_preparation(int error);
/* What is to be said where libbpf said nothing. */
__attribute__((format(printf, 2, 3))) void failure_say(json_t *failure, const char *format, ...);
void failure_missing(json_t *failure, const char *kind, const char *name);
/* Whether a map of a prepared object exists. */
bool map_is_made(const struct bpf_map *map);
/* Print the maps that were made. */
void report_maps(struct session *session, struct bpf_object *obj);
/* Add a loaded program's numbers to its result. */
void report_program(json_t *result, struct bpf_program *program, int fd);
void report_instructions(json_t *result, struct bpf_program *program);
void report_lines(json_t *result, struct bpf_object *obj, struct bpf_program *program);
json_t *map_json(const struct bpf_map *map);
json_t *map_type_json(enum bpf_map_type type);

/* main.c */

/* Write a line of a reply; it gives the value back. */
void reply(json_t *value);

#endif
