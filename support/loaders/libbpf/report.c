// SPDX-License-Identifier: Apache-2.0
// Facts as JSON: failures, maps, and what a loaded program consists of.

#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "loader.h"

json_t *failure_json(const char *step, int error)
{
	json_t *failure = json_pack("{s:s, s:o}", "step", step, "words", words_json());

	if (error)
		json_object_set_new(failure, "errno", json_string(error_name(error)));
	return failure;
}

void failure_missing(json_t *failure, const char *kind, const char *name)
{
	json_object_set_new(failure, "missing",
			    json_pack("{s:s, s:o}", "kind", kind, "name", text_json(name)));
}

void failure_say(json_t *failure, const char *format, ...)
{
	char *line;
	va_list args;

	if (json_array_size(json_object_get(failure, "words")))
		return;
	va_start(args, format);
	if (vasprintf(&line, format, args) >= 0) {
		json_object_set_new(failure, "words", json_pack("[o]", text_json(line)));
		free(line);
	}
	va_end(args);
}

/* The extern that a warning is about, and what it is. */
static json_t *failure_of_extern(int error)
{
	json_t *failure = failure_json("relocate", error);
	const char *line = words_last("extern ");
	char *name = between(line, "'", "'");
	const char *kind = "ksym";

	if (strstr(line, "(func ksym)"))
		kind = "kfunc";
	else if (strstr(line, "(kcfg)") || (name && strncmp(name, "CONFIG_", 7) == 0) ||
		 (name && strncmp(name, "LINUX_", 6) == 0))
		kind = "kconfig";
	if (name)
		failure_missing(failure, kind, name);
	free(name);
	return failure;
}

json_t *failure_of_preparation(int error)
{
	json_t *failure;

	if (words_last("extern "))
		return failure_of_extern(error);
	if (words_contain("failed to open system Kconfig")) {
		failure = failure_json("relocate", error);
		failure_missing(failure, "kconfig-file", "");
		return failure;
	}
	if (words_last("Error loading vmlinux BTF")) {
		failure = failure_json("relocate", error);
		failure_missing(failure, "kernel-btf", "");
		return failure;
	}
	if (words_last("Error loading .BTF"))
		return failure_json("btf", error);
	if (words_last("map '"))
		return failure_json("map", error);
	if (words_last("struct_ops"))
		return failure_json("target", error);
	if (words_last("Error in bpf_object__probe_loading"))
		return failure_json("load", error);
	return failure_json("relocate", error);
}

json_t *map_type_json(enum bpf_map_type type)
{
	const char *name = libbpf_bpf_map_type_str(type);
	char number[16];

	if (name)
		return json_string(name);
	snprintf(number, sizeof(number), "%d", type);
	return json_string(number);
}

json_t *map_json(const struct bpf_map *map)
{
	return json_pack("{s:o, s:o, s:I}", "name", text_json(bpf_map__name(map)), "type",
			 map_type_json(bpf_map__type(map)), "entries",
			 (json_int_t)bpf_map__max_entries(map));
}

/* The bytes of kernel memory that belong to a descriptor of a map or program; -1 if unknown. */
static long long kernel_memory(int fd)
{
	long long bytes = -1;
	char path[64], line[256];
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "re");
	while (info && fgets(line, sizeof(line), info)) {
		if (sscanf(line, "memlock: %lld", &bytes) == 1)
			break;
	}
	if (info)
		fclose(info);
	return bytes;
}

bool map_is_made(const struct bpf_map *map)
{
	// A map that is switched off has a descriptor too, which is a place-holder.
	return bpf_map__autocreate(map) && bpf_map__fd(map) >= 0;
}

void report_maps(struct session *session, struct bpf_object *obj)
{
	static json_t *reported;
	struct bpf_map *map;

	if (!reported)
		reported = json_object();
	bpf_object__for_each_map(map, obj)
	{
		long long bytes;
		json_t *value;
		char *key;

		if (!map_is_made(map) ||
		    asprintf(&key, "%s %s", session->file->path, bpf_map__name(map)) < 0)
			continue;
		if (!json_object_get(reported, key)) {
			json_object_set_new(reported, key, json_true());
			value = json_pack("{s:o, s:o}", "name", text_json(bpf_map__name(map)),
					  "type", map_type_json(bpf_map__type(map)));
			bytes = kernel_memory(bpf_map__fd(map));
			if (bytes >= 0)
				json_object_set_new(value, "memory_bytes", json_integer(bytes));
			reply(json_pack("{s:o}", "map", value));
		}
		free(key);
	}
}

void report_program(json_t *result, struct bpf_program *program, int fd)
{
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);
	long long bytes = kernel_memory(fd);

	if (bpf_prog_get_info_by_fd(fd, &info, &size) == 0) {
		json_object_set_new(result, "translated_bytes", json_integer(info.xlated_prog_len));
		json_object_set_new(result, "jited_bytes", json_integer(info.jited_prog_len));
	}
	if (bytes >= 0)
		json_object_set_new(result, "memory_bytes", json_integer(bytes));
	report_instructions(result, program);
}

static bool is_function_address(const struct bpf_insn *instruction)
{
	return instruction->code == (BPF_LD | BPF_IMM | BPF_DW) &&
	       instruction->src_reg == BPF_PSEUDO_FUNC;
}

static bool is_own_call(const struct bpf_insn *instruction)
{
	return (instruction->code == (BPF_JMP | BPF_CALL) &&
		instruction->src_reg == BPF_PSEUDO_CALL) ||
	       is_function_address(instruction);
}

/* Which instructions begin a function: flags, the caller's. */
static bool *function_starts(struct bpf_program *program, const struct bpf_insn *code, size_t count)
{
	bool *starts = calloc(count + 1, sizeof(*starts));
	const struct bpf_func_info *functions = bpf_program__func_info(program);

	if (!starts || !count)
		return starts;
	starts[0] = true;
	for (__u32 i = 0; functions && i < bpf_program__func_info_cnt(program); i++) {
		if (functions[i].insn_off < count)
			starts[functions[i].insn_off] = true;
	}
	for (size_t i = 0; i < count; i++) {
		size_t target = i + code[i].imm + 1;

		if (is_own_call(&code[i]) && target < count)
			starts[target] = true;
	}
	return starts;
}

static json_t *calls_json(const struct bpf_insn *code, size_t count, const bool *starts,
			  const int *numbers)
{
	json_t *calls = json_array(), *own = NULL, *known = NULL;

	for (size_t i = 0; i < count; i++) {
		size_t target = i + code[i].imm + 1;
		char key[16];

		if (starts[i]) {
			own = json_array();
			json_array_append_new(calls, own);
			json_decref(known);
			known = json_object();
		}
		if (!is_own_call(&code[i]) || target >= count)
			continue;
		snprintf(key, sizeof(key), "%d", numbers[target]);
		if (json_object_get(known, key))
			continue;
		json_object_set_new(known, key, json_true());
		json_array_append_new(own, json_integer(numbers[target]));
	}
	json_decref(known);
	return calls;
}

void report_instructions(json_t *result, struct bpf_program *program)
{
	const struct bpf_insn *code = bpf_program__insns(program);
	size_t count = bpf_program__insn_cnt(program);
	bool *starts = function_starts(program, code, count);
	int *numbers = calloc(count + 1, sizeof(*numbers));
	int functions = 0;

	json_object_set_new(result, "instructions", json_integer(count));
	for (size_t i = 0; starts && numbers && i < count; i++) {
		functions += starts[i];
		numbers[i] = functions - 1;
	}
	if (functions > 1)
		json_object_set_new(result, "calls", calls_json(code, count, starts, numbers));
	free(starts);
	free(numbers);
}

void report_lines(json_t *result, struct bpf_object *obj, struct bpf_program *program)
{
	const struct bpf_line_info *lines = bpf_program__line_info(program);
	const struct btf *btf = bpf_object__btf(obj);
	json_t *array;

	if (!lines || !btf)
		return;
	array = json_array();
	for (__u32 i = 0; i < bpf_program__line_info_cnt(program); i++) {
		const char *file = btf__str_by_offset(btf, lines[i].file_name_off);
		const char *text = btf__str_by_offset(btf, lines[i].line_off);

		text = text ? text + strspn(text, " \t") : NULL;
		json_array_append_new(
			array,
			json_pack("{s:I, s:o, s:I, s:o}", "insn", (json_int_t)lines[i].insn_off,
				  "file", text_json(file ? file : ""), "line",
				  (json_int_t)BPF_LINE_INFO_LINE_NUM(lines[i].line_col), "text",
				  text_json(text ? text : "")));
	}
	json_object_set_new(result, "line_info", array);
}
