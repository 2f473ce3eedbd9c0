// SPDX-License-Identifier: Apache-2.0
// Opening an object, and preparing it: its maps are made and its code is relocated once, for all of
// its programs. What the kernel lacks for some of them is found out here and left out, so that the
// others load.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "loader.h"

// More reasons to leave something out than any object has: a guard against a loop without an end.
#define MAX_ATTEMPTS 300
// Of what an object was prepared without, so many names are told.
#define SHOWN_NAMES 3

static char **paths;
static size_t path_count;

void objects_note(json_t *array)
{
	size_t i;
	json_t *path;

	paths = calloc(json_array_size(array) + 1, sizeof(*paths));
	json_array_foreach(array, i, path)
	{
		if (json_is_string(path))
			paths[path_count++] = strdup(json_string_value(path));
	}
}

const char *object_path(size_t index)
{
	return index < path_count ? paths[index] : NULL;
}

static int read_file(struct object_file *file)
{
	int fd = open(file->path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	size_t done = 0;

	if (fd < 0 || fstat(fd, &status)) {
		int error = errno;

		close(fd);
		return error;
	}
	file->bytes = malloc(status.st_size + 1);
	while (file->bytes && done < (size_t)status.st_size) {
		ssize_t size = read(fd, (char *)file->bytes + done, status.st_size - done);

		if (size <= 0) {
			int error = size ? errno : EIO;

			free(file->bytes);
			file->bytes = NULL;
			close(fd);
			return error;
		}
		done += size;
	}
	close(fd);
	file->size = done;
	return file->bytes ? 0 : ENOMEM;
}

static void forget_file(struct object_file *file)
{
	elf_uses_free(file->uses);
	file->uses = NULL;
	free(file->bytes);
	file->bytes = NULL;
}

static struct elf_uses *uses_of(struct object_file *file)
{
	if (!file->uses)
		file->uses = elf_uses_read(file->bytes, file->size);
	return file->uses;
}

struct elf_uses *session_uses(struct session *session)
{
	return uses_of(session->file);
}

struct bpf_program *program_at(struct bpf_object *obj, int index)
{
	struct bpf_program *program = NULL;

	do
		program = bpf_object__next_program(obj, program);
	while (program && index--);
	return program;
}

int program_index(struct bpf_object *obj, const char *name)
{
	struct bpf_program *program;
	int index = 0;

	bpf_object__for_each_program(program, obj)
	{
		if (strcmp(bpf_program__name(program), name) == 0)
			return index;
		index++;
	}
	return -1;
}

const char *section_target(const struct bpf_program *program)
{
	const char *slash = strchr(bpf_program__section_name(program), '/');

	return slash && slash[1] ? slash + 1 : NULL;
}

/* Whether a map of struct_ops has a program as one of its functions: until the object is loaded,
 * the map's value has a pointer to it. */
static bool has_function(const struct bpf_map *map, const struct bpf_program *program)
{
	size_t size = 0;
	void **value = bpf_map__initial_value(map, &size);

	for (size_t i = 0; value && i < size / sizeof(*value); i++) {
		if (value[i] == program)
			return true;
	}
	return false;
}

struct bpf_map *next_struct_ops_map(struct bpf_object *obj, struct bpf_map *map,
				    struct bpf_program *program)
{
	while ((map = bpf_object__next_map(obj, map))) {
		if (bpf_map__type(map) == BPF_MAP_TYPE_STRUCT_OPS && has_function(map, program))
			return map;
	}
	return NULL;
}

void keep_only(struct bpf_object *obj, struct bpf_program *program, bool whole_maps)
{
	struct bpf_program *other;
	struct bpf_map *map;

	bpf_object__for_each_program(other, obj) bpf_program__set_autoload(other, other == program);
	bpf_object__for_each_map(map, obj)
	{
		size_t size = 0;
		void **value;

		if (bpf_map__type(map) != BPF_MAP_TYPE_STRUCT_OPS)
			continue;
		if (!has_function(map, program)) {
			bpf_map__set_autocreate(map, false);
			continue;
		}
		if (whole_maps)
			continue;
		value = bpf_map__initial_value(map, &size);
		bpf_object__for_each_program(other, obj)
		{
			if (other == program)
				continue;
			for (size_t i = 0; i < size / sizeof(*value); i++) {
				if (value[i] == other)
					value[i] = NULL;
			}
		}
	}
}

/* The object's name, as libbpf makes it from the path: maps for global data are named after it. */
static const char *object_name(const char *path)
{
	static char name[64];
	const char *base = strrchr(path, '/');

	snprintf(name, sizeof(name), "%s", base ? base + 1 : path);
	name[strcspn(name, ".")] = '\0';
	return name[0] ? name : "object";
}

/* Text like a kernel's configuration, which has every option that the object asks for, each
 * switched off. It stands in for the one that is unknown, so that programs that ask for none can be
 * loaded. The result is the caller's. */
static char *empty_config(const struct btf *btf)
{
	__s32 id = btf ? btf__find_by_name_kind(btf, ".kconfig", BTF_KIND_DATASEC) : -1;
	const struct btf_type *section = id > 0 ? btf__type_by_id(btf, id) : NULL;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	for (unsigned int i = 0; section && i < btf_vlen(section); i++) {
		__u32 type_id = btf_var_secinfos(section)[i].type;
		const struct btf_type *variable = btf__type_by_id(btf, type_id);
		const char *name = btf__str_by_offset(btf, variable->name_off);
		const struct btf_type *type;
		const char *value = "n";
		__s32 resolved = btf__resolve_type(btf, type_id);

		if (strncmp(name, "CONFIG_", strlen("CONFIG_")) != 0 || resolved < 0)
			continue;
		type = btf__type_by_id(btf, resolved);
		while (btf_is_mod(type) || btf_is_typedef(type))
			type = btf__type_by_id(btf, type->type);
		if (btf_is_array(type))
			value = "\"\"";
		else if (btf_is_int(type) && type->size > 1)
			value = "0";
		fprintf(out, "%s=%s\n", name, value);
	}
	fclose(out);
	return text;
}

/* A program whose section tells no type gets that of a program that calls it by a map. */
static bool copy_type(struct session *session, struct bpf_object *obj, struct bpf_program *tail)
{
	struct elf_uses *uses = uses_of(session->file);
	struct bpf_program *program;

	bpf_object__for_each_program(program, obj)
	{
		if (!uses || bpf_program__type(program) == BPF_PROG_TYPE_UNSPEC ||
		    !elf_calls_tail(uses, bpf_program__section_name(program),
				    bpf_program__name(program), bpf_program__section_name(tail),
				    bpf_program__name(tail)))
			continue;
		bpf_program__set_type(tail, bpf_program__type(program));
		bpf_program__set_expected_attach_type(tail,
						      bpf_program__expected_attach_type(program));
		json_object_set_new(session->typed, bpf_program__name(tail), json_true());
		return true;
	}
	return false;
}

static void give_types(struct session *session, struct bpf_object *obj)
{
	struct bpf_program *program;
	bool changed;

	do {
		changed = false;
		bpf_object__for_each_program(program, obj)
		{
			if (bpf_program__type(program) == BPF_PROG_TYPE_UNSPEC)
				changed |= copy_type(session, obj, program);
		}
	} while (changed);
}

static struct bpf_object *open_bytes(struct session *session, const char *kconfig)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = object_name(session->file->path),
		    .kconfig = kconfig);
	void *weakened = NULL;
	struct bpf_object *obj;

	if (session->weak && uses_of(session->file))
		weakened = elf_weakened(session->file->uses);
	obj = bpf_object__open_mem(weakened ? weakened : session->file->bytes, session->file->size,
				   &opts);
	if (!obj) {
		int error = errno;

		free(weakened);
		errno = error;
		return NULL;
	}
	free(weakened); // libbpf has copied what it needs
	give_types(session, obj);
	return obj;
}

static void apply_settings(struct session *session, struct bpf_object *obj)
{
	struct bpf_program *program;
	struct bpf_map *map;
	const char *name, *why;
	json_t *value;

	bpf_object__for_each_map(map, obj)
	{
		value = json_object_get(session->map_sizes, bpf_map__name(map));
		bpf_map__set_pin_path(map, NULL);
		if (json_is_integer(value))
			bpf_map__set_max_entries(map, json_integer_value(value));
		bpf_map__set_autocreate(map,
					!json_object_get(session->maps_off, bpf_map__name(map)));
	}
	bpf_object__for_each_program(program, obj) bpf_program__set_autoload(program, true);
	json_object_foreach(session->set, name, value)
		set_variable(obj, name, json_string_value(value), &why);
}

struct bpf_object *session_object(struct session *session, int program, json_t **failure)
{
	struct bpf_object *obj = session->fresh;
	struct bpf_program *only;

	session->fresh = NULL;
	if (obj && (session->weak || session->config_unknown)) {
		bpf_object__close(obj);
		obj = NULL;
	}
	if (!obj)
		obj = open_bytes(session, NULL);
	if (obj && session->config_unknown) {
		char *config = empty_config(bpf_object__btf(obj));

		bpf_object__close(obj);
		obj = open_bytes(session, config);
		free(config);
	}
	if (!obj) {
		*failure = failure_json("open", errno);
		return NULL;
	}
	apply_settings(session, obj);
	if (program != ALL) {
		only = program_at(obj, program);
		if (only)
			keep_only(obj, only, false);
	}
	return obj;
}

/* The map that the last warnings tell about, behind a text. */
static struct bpf_map *map_in_words(struct bpf_object *obj, const char *beginning)
{
	char *name = between(words_last(beginning), beginning, "'");
	struct bpf_map *map = name ? bpf_object__find_map_by_name(obj, name) : NULL;

	free(name);
	return map;
}

static struct bpf_map *map_by_name_or_type(struct bpf_object *obj, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(obj, name);
	const struct btf *btf = bpf_object__btf(obj);

	if (map && bpf_map__type(map) == BPF_MAP_TYPE_STRUCT_OPS)
		return map;
	bpf_object__for_each_map(map, obj)
	{
		const struct btf_type *type = btf__type_by_id(btf, bpf_map__btf_value_type_id(map));

		const char *found = type ? btf__str_by_offset(btf, type->name_off) : "";
		size_t size = strlen(name);

		// X___y is a flavour of the kernel's X
		if (bpf_map__type(map) == BPF_MAP_TYPE_STRUCT_OPS && bpf_map__autocreate(map) &&
		    strncmp(found, name, size) == 0 &&
		    (!found[size] || strncmp(found + size, "___", 3) == 0))
			return map;
	}
	return NULL;
}

/* The map of struct_ops that can't be made on this kernel, and the kernel's type that it lacks. */
static struct bpf_map *struct_ops_in_words(struct bpf_object *obj, json_t *failure)
{
	const char *line = words_last("struct_ops init_kern");
	struct bpf_map *map = NULL;
	char *name;

	name = between(line, "struct_ops init_kern ", ":");
	if (name) {
		char *member = between(line, "Cannot find member ", " ");

		name[strcspn(name, " ")] = '\0';
		map = map_by_name_or_type(obj, name);
		if (member && map) {
			char *full;

			if (asprintf(&full, "%s.%s", name, member) > 0) {
				failure_missing(failure, "target", full);
				free(full);
			}
		}
		free(member);
		free(name);
		return map;
	}
	name = between(line, "struct ", " is not found");
	if (name) {
		// struct bpf_struct_ops_X is the kernel's own, X is what the object has
		const char *own = strncmp(name, "bpf_struct_ops_", strlen("bpf_struct_ops_"))
					  ? name
					  : name + strlen("bpf_struct_ops_");

		map = map_by_name_or_type(obj, own);
		failure_missing(failure, "target", own);
		free(name);
	}
	return map;
}

static bool leave_out(struct session *session, struct bpf_map *map, json_t *failure)
{
	const char *name = bpf_map__name(map);

	if (json_object_get(session->maps_off, name)) {
		json_decref(failure);
		return false;
	}
	return !json_object_set_new_nocheck(session->maps_off, name, failure);
}

/* libbpf's own probe for these maps has a field that kernels before 6.9 refuse. A kernel that has
 * the type finds that type 1 of its BTF is no struct_ops: 524 is ENOTSUPP. */
static bool has_struct_ops(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .btf_vmlinux_value_type_id = 1);
	int fd = bpf_map_create(BPF_MAP_TYPE_STRUCT_OPS, NULL, 4, 4, 1, &opts);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || fd == -524;
}

/* The probes say what the kernel lacks; for some errors, they need not be asked. */
static bool map_type_known(enum bpf_map_type type, int error)
{
	if (type == BPF_MAP_TYPE_STRUCT_OPS)
		return has_struct_ops();
	if (error == -EPERM || error == -ENOMEM || error == -E2BIG)
		return true;
	return is_supported(libbpf_probe_bpf_map_type(type, NULL));
}

/* Find out why an object can't be prepared, and note what to leave out. False: nothing helps. */
static bool tolerate(struct session *session, struct bpf_object *obj, int error)
{
	struct bpf_map *map = map_in_words(obj, "map '");
	json_t *failure;

	if (map && bpf_map__autocreate(map)) {
		failure = failure_json("map", error);
		json_object_set_new(failure, "words", words_about(bpf_map__name(map)));
		json_object_set_new(failure, "map", map_json(map));
		json_object_set_new(failure, "type_supported",
				    json_boolean(map_type_known(bpf_map__type(map), error)));
		return leave_out(session, map, failure);
	}
	if (words_last("struct_ops init_kern")) {
		failure = failure_json("target", error);
		map = struct_ops_in_words(obj, failure);
		if (map)
			return leave_out(session, map, failure);
		json_decref(failure);
	}
	if (words_contain("failed to open system Kconfig") && !session->config_unknown) {
		session->config_unknown = true;
		return true;
	}
	if (words_last("extern ") && !session->weak && uses_of(session->file)) {
		session->weak = true;
		return true;
	}
	return false;
}

static const char *extern_kind(const struct btf *btf, const char *name)
{
	__s32 id = btf ? btf__find_by_name_kind(btf, ".kconfig", BTF_KIND_DATASEC) : -1;
	const struct btf_type *section = id > 0 ? btf__type_by_id(btf, id) : NULL;

	for (unsigned int i = 0; section && i < btf_vlen(section); i++) {
		const struct btf_type *variable =
			btf__type_by_id(btf, btf_var_secinfos(section)[i].type);

		if (strcmp(btf__str_by_offset(btf, variable->name_off), name) == 0)
			return "kconfig";
	}
	return btf && btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) > 0 ? "kfunc" : "ksym";
}

/* Which of the externs that libbpf has left at zero the object needs. */
static void note_missing(struct session *session, struct bpf_object *obj)
{
	const struct btf *btf = bpf_object__btf(obj);
	json_t *unresolved = words_unresolved();
	json_t *name;
	size_t i;

	json_array_foreach(unresolved, i, name)
	{
		const char *text = json_string_value(name);

		if (text && session->weak && elf_is_strong(session->file->uses, text))
			json_object_set_new(session->missing, text,
					    json_string(extern_kind(btf, text)));
	}
	json_decref(unresolved);
}

static void note_options(struct session *session, struct bpf_object *obj)
{
	const struct btf *btf = bpf_object__btf(obj);
	__s32 id = btf ? btf__find_by_name_kind(btf, ".kconfig", BTF_KIND_DATASEC) : -1;
	const struct btf_type *section = id > 0 ? btf__type_by_id(btf, id) : NULL;

	for (unsigned int i = 0; section && i < btf_vlen(section); i++) {
		const struct btf_type *variable =
			btf__type_by_id(btf, btf_var_secinfos(section)[i].type);
		const char *name = btf__str_by_offset(btf, variable->name_off);

		if (strncmp(name, "CONFIG_", strlen("CONFIG_")) == 0)
			json_object_set_new(session->missing, name, json_string("kconfig-file"));
	}
}

static struct bpf_object *try_to_prepare(struct session *session, int program, json_t **failure)
{
	struct bpf_object *obj;
	int error;

	for (int attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
		words_clear();
		obj = session_object(session, program, failure);
		if (!obj)
			return NULL;
		error = bpf_object__prepare(obj);
		if (!error) {
			note_missing(session, obj);
			if (session->config_unknown)
				note_options(session, obj);
			return obj;
		}
		if (!tolerate(session, obj, error)) {
			*failure = failure_of_preparation(error);
			bpf_object__close(obj);
			return NULL;
		}
		bpf_object__close(obj);
	}
	*failure = failure_of_preparation(error);
	return NULL;
}

/* Add names to a list for people, of which a few are shown. */
static void list(FILE *out, const char *kind, json_t *names, int *count)
{
	const char *name;
	json_t *value;

	json_object_foreach(names, name, value)
	{
		(*count)++;
		if (*count <= SHOWN_NAMES)
			fprintf(out, "%s%s %s", *count > 1 ? ", " : "", kind, name);
	}
}

/* What the object was prepared without, as a note of the results; NULL if nothing is missing. */
static json_t *note_of(struct session *session)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	const char *refusal = words_btf_left_out();
	int count = 0;
	json_t *note;

	if (refusal)
		fprintf(out, "loaded without the object's BTF, which this kernel refuses%s%s",
			refusal[0] ? ": " : "", refusal);
	if (json_object_size(session->maps_off) || json_object_size(session->missing)) {
		fprintf(out, "%s", refusal ? "; without " : "loaded without ");
		list(out, "map", session->maps_off, &count);
		list(out, "symbol", session->missing, &count);
		if (count > SHOWN_NAMES)
			fprintf(out, " and %d more", count - SHOWN_NAMES);
		fprintf(out, ", for which libbpf refuses the whole object here");
	}
	fclose(out);
	note = text[0] ? text_json(text) : NULL;
	free(text);
	return note;
}

static void set_prepared(struct session *session, struct bpf_object *obj, int program)
{
	bpf_object__close(session->prepared);
	session->prepared = obj;
	session->prepared_for = program;
	json_decref(session->note);
	session->note = obj ? note_of(session) : NULL;
	json_decref(session->skipped);
	session->skipped = words_skipped();
	if (obj && !session->is_target)
		report_maps(session, obj);
}

/* Maps for which there was no memory are tried again: other processes may have given it back. */
static bool lacked_memory(struct session *session)
{
	const char *name;
	json_t *failure;

	json_object_foreach(session->maps_off, name, failure)
	{
		const char *error = json_string_value(json_object_get(failure, "errno"));

		if (error && strcmp(error, "ENOMEM") == 0)
			return true;
	}
	return false;
}

struct bpf_object *session_prepare(struct session *session, int program, json_t **failure)
{
	struct bpf_object *obj;

	if (lacked_memory(session)) {
		set_prepared(session, NULL, ALL);
		json_object_clear(session->maps_off);
	}

	if (session->prepared && (session->prepared_for == ALL || session->prepared_for == program))
		return session->prepared;
	set_prepared(session, NULL, ALL);
	if (!session->alone) {
		obj = try_to_prepare(session, ALL, failure);
		if (obj) {
			set_prepared(session, obj, ALL);
			return obj;
		}
		json_decref(*failure);
		*failure = NULL;
		session->alone = true;
	}
	obj = try_to_prepare(session, program, failure);
	if (obj)
		set_prepared(session, obj, program);
	return obj;
}

/* Whether libbpf looks for a symbol in the kernel's BTF, since the object tells its type. */
static bool is_typed(const char *path, const char *name)
{
	struct btf *btf = btf__parse_elf(path, NULL); // that of the open object is rewritten
	__s32 id = btf ? btf__find_by_name_kind(btf, name, BTF_KIND_VAR) : -1;
	const struct btf_type *variable = id > 0 ? btf__type_by_id(btf, id) : NULL;
	__s32 resolved = variable ? btf__resolve_type(btf, variable->type) : -1; // not of void

	btf__free(btf);
	return resolved > 0;
}

/* What libbpf says, and the error that it gives, if an extern is missing. */
/* Whether the kernel has a function that an object declares, perhaps as NAME___flavour. Then its
 * parameters are others than declared. */
static bool kernel_has_function(const char *symbol)
{
	const char *flavour = strstr(symbol, "___");
	char *name = strndup(symbol, flavour ? (size_t)(flavour - symbol) : strlen(symbol));
	struct btf *kernel = btf__load_vmlinux_btf();
	bool found = kernel && name && btf__find_by_name_kind(kernel, name, BTF_KIND_FUNC) > 0;

	btf__free(kernel);
	free(name);
	return found;
}

static json_t *failure_of_missing(struct session *session, const char *kind, const char *symbol)
{
	const char *format = "libbpf: extern '%s' (strong): not resolved";
	bool incompatible = false;
	int error = ESRCH;
	json_t *failure;
	char *line;

	if (strcmp(kind, "kconfig-file") == 0) {
		format = "libbpf: failed to open system Kconfig, which has %s";
		error = EINVAL;
	} else if (strcmp(kind, "kfunc") == 0) {
		incompatible = kernel_has_function(symbol);
		format = incompatible ? "libbpf: extern (func ksym) '%s': func_proto incompatible "
					"with vmlinux"
				      : "libbpf: extern (func ksym) '%s': not found in kernel or "
					"module BTFs";
		error = EINVAL;
	} else if (strcmp(kind, "ksym") == 0 && is_typed(session->file->path, symbol)) {
		format = "libbpf: extern (var ksym) '%s': not found in kernel BTF";
		error = EINVAL;
	}
	failure = failure_json("relocate", error);
	if (!incompatible)
		failure_missing(failure, kind, symbol);
	if (asprintf(&line, format, symbol) > 0) {
		json_object_set_new(failure, "words", json_pack("[o]", text_json(line)));
		free(line);
	}
	return failure;
}

static json_t *refusal_by_externs(struct session *session, const char *section, const char *name)
{
	struct elf_uses *uses = json_object_size(session->missing) ? uses_of(session->file) : NULL;
	const char *symbol;
	json_t *kind;

	if (!uses)
		return NULL;
	json_object_foreach(session->missing, symbol, kind)
	{
		if (elf_uses_symbol(uses, section, name, symbol))
			return failure_of_missing(session, json_string_value(kind), symbol);
	}
	return NULL;
}

/* A program of struct_ops can be loaded only for a map that can be made. */
static json_t *refusal_by_maps(struct session *session, struct bpf_program *program)
{
	json_t *failure = NULL, *why;
	struct bpf_object *obj;
	struct bpf_program *same;
	struct bpf_map *map = NULL;

	// In an object that is prepared, the maps do not name the functions any more.
	obj = session_object(session, ALL, &failure);
	if (!obj)
		return failure;
	same = program_at(obj, program_index(obj, bpf_program__name(program)));
	while ((map = next_struct_ops_map(obj, map, same))) {
		why = json_object_get(session->maps_off, bpf_map__name(map));
		if (!why) {
			json_decref(failure);
			failure = NULL;
			break;
		}
		if (!failure)
			failure = json_incref(why);
	}
	bpf_object__close(obj);
	return failure;
}

/* libbpf does not load a program for a function that the kernel's struct does not have. */
static json_t *refusal_by_function(struct session *session, struct bpf_program *program)
{
	const char *function = section_target(program);
	json_t *failure;

	if (bpf_program__autoload(program))
		return NULL;
	failure = failure_json("target", ENOENT);
	failure_missing(failure, "target", function ? function : bpf_program__name(program));
	json_object_set(failure, "words", session->skipped);
	return failure;
}

json_t *session_refusal(struct session *session, struct bpf_program *program)
{
	json_t *failure = NULL;

	if (bpf_program__type(program) == BPF_PROG_TYPE_STRUCT_OPS &&
	    json_object_size(session->maps_off))
		failure = refusal_by_maps(session, program);
	if (!failure && bpf_program__type(program) == BPF_PROG_TYPE_STRUCT_OPS)
		failure = refusal_by_function(session, program);
	if (!failure)
		failure = refusal_by_externs(session, bpf_program__section_name(program),
					     bpf_program__name(program));
	return failure;
}

static bool native(const struct object_file *file)
{
	const unsigned char *bytes = file->bytes;

	// EI_DATA of the ELF header: 1 is little-endian, 2 is big-endian
	const unsigned char other = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 1 : 2;

	return file->size < 6 || memcmp(bytes, "\177ELF", 4) != 0 || bytes[5] != other;
}

struct session *session_open(const char *path, json_t *set, json_t *map_sizes, json_t **failure)
{
	struct session *session = calloc(1, sizeof(*session));
	int error;

	session->file = calloc(1, sizeof(*session->file));
	session->file->path = strdup(path);
	session->set = json_incref(set);
	session->map_sizes = json_incref(map_sizes);
	session->missing = json_object();
	session->typed = json_object();
	session->maps_off = json_object();
	session->prepared_for = ALL;
	error = read_file(session->file);
	if (error) {
		*failure = failure_json("open", error);
		failure_say(*failure, "the file can't be read: %s", error_name(error));
	} else if (!native(session->file)) {
		*failure = failure_json("open", LIBBPF_ERRNO__ENDIAN);
		json_object_set_new(*failure, "words",
				    json_pack("[s]", "libbpf: loading non-native endianness is "
						     "unsupported"));
	} else {
		session->fresh = open_bytes(session, NULL);
		if (session->fresh)
			return session;
		error = errno;
		*failure = failure_json("open", error);
		failure_say(*failure, "the file can't be opened: %s",
			    session->file->size ? error_name(error) : "it is empty");
	}
	session_close(session);
	return NULL;
}

void session_learn(struct session *session, const struct session *other)
{
	if (strcmp(session->file->path, other->file->path) != 0)
		return;
	session->weak = other->weak;
	session->config_unknown = other->config_unknown;
	json_object_update(session->maps_off, other->maps_off);
}

void session_close(struct session *session)
{
	if (!session)
		return;
	bpf_object__close(session->prepared);
	bpf_object__close(session->fresh);
	forget_file(session->file);
	free(session->file->path);
	free(session->file);
	json_decref(session->set);
	json_decref(session->map_sizes);
	json_decref(session->missing);
	json_decref(session->typed);
	json_decref(session->maps_off);
	json_decref(session->note);
	json_decref(session->skipped);
	free(session);
}
