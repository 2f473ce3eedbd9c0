// SPDX-License-Identifier: Apache-2.0
// Values for global variables. docs/reason-codes.md describes what the texts may be.

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "loader.h"

#define BIG_ENDIAN_HERE (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)

static char problem[128];

static const struct btf_type *underlying(const struct btf *btf, __u32 id)
{
	const struct btf_type *type = btf__type_by_id(btf, id);

	for (int depth = 0; type && depth < 32 && (btf_is_mod(type) || btf_is_typedef(type));
	     depth++)
		type = btf__type_by_id(btf, type->type);
	return type;
}

static bool put(void *to, size_t size, __u64 value)
{
	switch (size) {
	case 1:
	case 2:
	case 4:
	case 8:
		// The low bytes of the value come first, or last where the processor is big-endian.
		memcpy(to, (const char *)&value + (BIG_ENDIAN_HERE ? sizeof(value) - size : 0),
		       size);
		return true;
	}
	snprintf(problem, sizeof(problem), "a variable of %zu bytes can't be set", size);
	return false;
}

static bool put_integer(void *to, size_t size, bool is_signed, const char *text)
{
	unsigned int bits = size * 8;
	bool in_range;
	__u64 value;
	char *end;

	errno = 0;
	if (is_signed) {
		__s64 number = strtoll(text, &end, 0);

		value = number;
		in_range = !errno && (bits >= 64 || (number >= -(1LL << (bits - 1)) &&
						     number < 1LL << (bits - 1)));
	} else {
		value = strtoull(text, &end, 0);
		in_range = !errno && (bits >= 64 || value < 1ULL << bits);
	}
	if (!*text || *end || isspace(*text) || (!is_signed && strchr(text, '-'))) {
		snprintf(problem, sizeof(problem), "expected %s",
			 is_signed ? "a number" : "an unsigned number");
		return false;
	}
	if (!in_range) {
		snprintf(problem, sizeof(problem), "expected %s of %u bits",
			 is_signed ? "a number" : "an unsigned number", bits);
		return false;
	}
	return put(to, size, value);
}

static bool encode(const struct btf *btf, __u32 id, void *to, size_t size, const char *text);

static bool put_bool(void *to, size_t size, const char *text)
{
	if (strcmp(text, "true") == 0 || strcmp(text, "1") == 0)
		return put(to, size, 1);
	if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
		return put(to, size, 0);
	snprintf(problem, sizeof(problem), "expected true or false");
	return false;
}

static bool put_enum(const struct btf *btf, const struct btf_type *type, void *to, size_t size,
		     const char *text)
{
	for (unsigned int i = 0; i < btf_vlen(type); i++) {
		bool wide = btf_is_enum64(type);
		__u32 name = wide ? btf_enum64(type)[i].name_off : btf_enum(type)[i].name_off;

		if (strcmp(btf__str_by_offset(btf, name), text) == 0)
			return put(to, size,
				   wide ? btf_enum64_value(btf_enum64(type) + i)
					: (__u64)(__s64)btf_enum(type)[i].val);
	}
	return put_integer(to, size, btf_kflag(type), text);
}

static bool put_float(void *to, size_t size, const char *text)
{
	char *end;
	double value = strtod(text, &end);
	float single = value;

	if (!*text || *end) {
		snprintf(problem, sizeof(problem), "expected a number");
		return false;
	}
	if (size == sizeof(single))
		memcpy(to, &single, size);
	else if (size == sizeof(value))
		memcpy(to, &value, size);
	else
		return put(to, size, 0);
	return true;
}

static bool is_character(const struct btf *btf, const struct btf_type *type)
{
	return btf_is_int(type) && type->size == 1 &&
	       (btf_int_encoding(type) & BTF_INT_CHAR ||
		strcmp(btf__str_by_offset(btf, type->name_off), "char") == 0);
}

static bool no_room(size_t elements)
{
	snprintf(problem, sizeof(problem), "it has room for %zu", elements);
	return false;
}

static bool put_array(const struct btf *btf, const struct btf_type *type, char *to, size_t size,
		      const char *text)
{
	__u32 id = btf_array(type)->type;
	const struct btf_type *element = underlying(btf, id);
	__s64 width = btf__resolve_size(btf, id);
	size_t done = 0;
	char *copy, *word, *rest;
	bool good = true;

	if (!element || width <= 0) {
		snprintf(problem, sizeof(problem), "its type can't be set");
		return false;
	}
	memset(to, 0, size);
	if (is_character(btf, element)) {
		if (strlen(text) > size)
			return no_room(size);
		memcpy(to, text, strlen(text));
		return true;
	}
	copy = rest = strdup(text);
	while (good && (word = strsep(&rest, ","))) {
		word += strspn(word, " \t");
		for (char *end = word + strlen(word); end > word && isspace(end[-1]);)
			*--end = '\0';
		if (done + width > size)
			good = no_room(size / width);
		else
			good = encode(btf, id, to + done, width, word);
		done += width;
	}
	free(copy);
	return good;
}

static bool encode(const struct btf *btf, __u32 id, void *to, size_t size, const char *text)
{
	const struct btf_type *type = underlying(btf, id);

	switch (type ? btf_kind(type) : BTF_KIND_UNKN) {
	case BTF_KIND_INT:
		if (btf_int_encoding(type) & BTF_INT_BOOL)
			return put_bool(to, size, text);
		return put_integer(to, size, btf_int_encoding(type) & BTF_INT_SIGNED, text);
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return put_enum(btf, type, to, size, text);
	case BTF_KIND_FLOAT:
		return put_float(to, size, text);
	case BTF_KIND_ARRAY:
		return put_array(btf, type, to, size, text);
	}
	snprintf(problem, sizeof(problem), "a variable of its type can't be set");
	return false;
}

/* The map with a section's data: libbpf has given it the section's type. */
static struct bpf_map *map_of_section(struct bpf_object *obj, __u32 section)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, obj)
	{
		if (bpf_map__is_internal(map) && bpf_map__btf_value_type_id(map) == section)
			return map;
	}
	return NULL;
}

int set_variable(struct bpf_object *obj, const char *name, const char *text, const char **why)
{
	const struct btf *btf = bpf_object__btf(obj);
	__u32 count = btf ? btf__type_cnt(btf) : 0;

	for (__u32 id = 1; id < count; id++) {
		const struct btf_type *section = btf__type_by_id(btf, id);
		struct bpf_map *map;
		size_t size;
		char *data;

		if (!btf_is_datasec(section))
			continue;
		map = map_of_section(obj, id);
		data = map ? bpf_map__initial_value(map, &size) : NULL;
		// What is in .kconfig has the kernel's values.
		if (!data || strcmp(btf__str_by_offset(btf, section->name_off), ".kconfig") == 0)
			continue;
		for (unsigned int i = 0; i < btf_vlen(section); i++) {
			const struct btf_var_secinfo *place = btf_var_secinfos(section) + i;
			const struct btf_type *variable = btf__type_by_id(btf, place->type);

			if (!btf_is_var(variable) ||
			    strcmp(btf__str_by_offset(btf, variable->name_off), name) != 0 ||
			    place->offset > size || place->size > size - place->offset)
				continue;
			if (encode(btf, variable->type, data + place->offset, place->size, text))
				return 1;
			*why = problem;
			return -1;
		}
	}
	return 0;
}
