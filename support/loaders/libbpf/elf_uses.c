// SPDX-License-Identifier: Apache-2.0
// Which code of an object uses what: read from the symbols and relocations of its ELF.

#include <gelf.h>
#include <libelf.h>
#include <stdlib.h>
#include <string.h>
#include <linux/bpf.h>
#include "loader.h"

struct function {
	const char *name;
	size_t section;
	__u64 start, end; /* bytes in the section */
	bool global;
};

/* A function refers to another function, or to another symbol. */
struct reference {
	size_t from;
	const char *symbol; /* NULL: `to` says which function */
	size_t to;
};

/* A map has a program as one of its values. */
struct slot {
	const char *map;
	size_t function;
};

struct elf_uses {
	Elf *elf;
	const void *bytes;
	size_t size;
	size_t section_names; /* index of the section with the names of sections */
	Elf_Scn *symbol_section;
	Elf_Data *symbols;
	GElf_Shdr symbol_header;
	size_t symbol_count;
	struct function *functions;
	size_t function_count;
	struct reference *references;
	size_t reference_count, reference_room;
	struct slot *slots;
	size_t slot_count;
	bool **relocated; /* per section: which of its instructions have a relocation */
	size_t section_count;
};

static const char *symbol_name(const struct elf_uses *uses, const GElf_Sym *symbol)
{
	const char *name = elf_strptr(uses->elf, uses->symbol_header.sh_link, symbol->st_name);

	return name ? name : "";
}

static bool find_symbols(struct elf_uses *uses)
{
	Elf_Scn *section = NULL;

	while ((section = elf_nextscn(uses->elf, section))) {
		if (!gelf_getshdr(section, &uses->symbol_header))
			return false;
		if (uses->symbol_header.sh_type != SHT_SYMTAB)
			continue;
		uses->symbol_section = section;
		uses->symbols = elf_getdata(section, NULL);
		if (!uses->symbols || uses->symbol_header.sh_entsize != sizeof(Elf64_Sym))
			return false;
		uses->symbol_count = uses->symbols->d_size / sizeof(Elf64_Sym);
		return true;
	}
	return false;
}

static bool find_functions(struct elf_uses *uses)
{
	uses->functions = calloc(uses->symbol_count + 1, sizeof(*uses->functions));
	if (!uses->functions)
		return false;
	for (size_t i = 0; i < uses->symbol_count; i++) {
		GElf_Sym symbol;

		if (!gelf_getsym(uses->symbols, i, &symbol))
			return false;
		if (GELF_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF ||
		    symbol.st_shndx >= SHN_LORESERVE)
			continue;
		uses->functions[uses->function_count++] = (struct function){
			.name = symbol_name(uses, &symbol),
			.section = symbol.st_shndx,
			.start = symbol.st_value,
			.end = symbol.st_value + symbol.st_size,
			.global = GELF_ST_BIND(symbol.st_info) != STB_LOCAL,
		};
	}
	return true;
}

/* The function that has a byte of a section; function_count if none has. */
static size_t function_at(const struct elf_uses *uses, size_t section, __u64 offset)
{
	size_t i;

	for (i = 0; i < uses->function_count; i++) {
		const struct function *function = &uses->functions[i];

		if (function->section == section && function->start <= offset &&
		    offset < function->end)
			break;
	}
	return i;
}

static bool add_reference(struct elf_uses *uses, size_t from, const char *symbol, size_t to)
{
	if (from == uses->function_count || (!symbol && to == uses->function_count))
		return true;
	if (uses->reference_count == uses->reference_room) {
		size_t room = uses->reference_room ? 2 * uses->reference_room : 64;
		void *grown = realloc(uses->references, room * sizeof(*uses->references));

		if (!grown)
			return false;
		uses->references = grown;
		uses->reference_room = room;
	}
	uses->references[uses->reference_count++] = (struct reference){from, symbol, to};
	return true;
}

static bool instruction_at(const Elf_Data *code, __u64 offset, struct bpf_insn *instruction)
{
	if (!code || !code->d_buf || code->d_size < sizeof(*instruction) ||
	    offset > code->d_size - sizeof(*instruction))
		return false;
	memcpy(instruction, (const char *)code->d_buf + offset, sizeof(*instruction));
	return true;
}

static bool is_call(const struct bpf_insn *instruction)
{
	return instruction->code == (BPF_JMP | BPF_CALL);
}

static const char *section_name(const struct elf_uses *uses, size_t index)
{
	Elf_Scn *section = elf_getscn(uses->elf, index);
	const char *name = NULL;
	GElf_Shdr header;

	if (section && gelf_getshdr(section, &header))
		name = elf_strptr(uses->elf, uses->section_names, header.sh_name);
	if (!name)
		return "";
	return name[0] == '?' ? name + 1 : name;
}

/* The name of the map at a place of the section of maps. */
static const char *map_at(const struct elf_uses *uses, size_t section, __u64 offset)
{
	for (size_t i = 0; i < uses->symbol_count; i++) {
		GElf_Sym symbol;

		if (gelf_getsym(uses->symbols, i, &symbol) && symbol.st_shndx == section &&
		    GELF_ST_TYPE(symbol.st_info) == STT_OBJECT && symbol.st_value <= offset &&
		    offset - symbol.st_value < symbol.st_size)
			return symbol_name(uses, &symbol);
	}
	return "";
}

static bool read_relocations(struct elf_uses *uses, Elf_Scn *section, const GElf_Shdr *header)
{
	Elf_Data *relocations = elf_getdata(section, NULL);
	Elf_Scn *target = elf_getscn(uses->elf, header->sh_info);
	Elf_Data *code = target ? elf_getdata(target, NULL) : NULL;
	size_t count;

	bool is_map_section = strcmp(section_name(uses, header->sh_info), ".maps") == 0;
	bool *relocated;

	if (!relocations || !header->sh_entsize || !code || header->sh_info >= uses->section_count)
		return true;
	relocated = calloc(code->d_size / sizeof(struct bpf_insn) + 1, sizeof(*relocated));
	if (!relocated)
		return false;
	free(uses->relocated[header->sh_info]);
	uses->relocated[header->sh_info] = relocated;
	count = relocations->d_size / header->sh_entsize;
	is_map_section = is_map_section && !uses->slots; // the first such section counts
	if (is_map_section && !(uses->slots = calloc(count + 1, sizeof(*uses->slots))))
		return false;
	for (size_t i = 0; i < count; i++) {
		struct bpf_insn instruction;
		GElf_Rel relocation;
		GElf_Sym symbol;
		size_t from, to;
		__s64 offset;

		if (!gelf_getrel(relocations, i, &relocation) ||
		    !gelf_getsym(uses->symbols, GELF_R_SYM(relocation.r_info), &symbol))
			return false;
		to = function_at(uses, symbol.st_shndx, symbol.st_value);
		if (is_map_section && to < uses->function_count)
			uses->slots[uses->slot_count++] = (struct slot){
				map_at(uses, header->sh_info, relocation.r_offset), to};
		if (relocation.r_offset < code->d_size)
			relocated[relocation.r_offset / sizeof(struct bpf_insn)] = true;
		from = function_at(uses, header->sh_info, relocation.r_offset);
		if (from == uses->function_count)
			continue;
		if (symbol.st_shndx == SHN_UNDEF || GELF_ST_TYPE(symbol.st_info) == STT_OBJECT) {
			if (!add_reference(uses, from, symbol_name(uses, &symbol), 0))
				return false;
			continue;
		}
		if (!instruction_at(code, relocation.r_offset, &instruction))
			continue;
		// A call has the distance in instructions, a load of an address one in bytes.
		offset = symbol.st_value;
		if (is_call(&instruction))
			offset += ((__s64)instruction.imm + 1) * (__s64)sizeof(instruction);
		else
			offset += instruction.imm;
		to = function_at(uses, symbol.st_shndx, offset);
		if (!add_reference(uses, from, NULL, to))
			return false;
	}
	return true;
}

/* Calls within a section have no relocation. */
static bool read_calls(struct elf_uses *uses, size_t index, Elf_Scn *section)
{
	const bool *relocated = index < uses->section_count ? uses->relocated[index] : NULL;
	Elf_Data *code = elf_getdata(section, NULL);
	struct bpf_insn instruction;

	for (__u64 offset = 0; instruction_at(code, offset, &instruction);
	     offset += sizeof(instruction)) {
		__s64 distance = ((__s64)instruction.imm + 1) * (__s64)sizeof(instruction);

		if (!is_call(&instruction) || instruction.src_reg != BPF_PSEUDO_CALL ||
		    (relocated && relocated[offset / sizeof(instruction)]))
			continue;
		if (!add_reference(uses, function_at(uses, index, offset), NULL,
				   function_at(uses, index, offset + distance)))
			return false;
	}
	return true;
}

static bool read_references(struct elf_uses *uses)
{
	Elf_Scn *section = NULL;
	GElf_Shdr header;

	if (elf_getshdrnum(uses->elf, &uses->section_count))
		return false;
	uses->relocated = calloc(uses->section_count + 1, sizeof(*uses->relocated));
	if (!uses->relocated)
		return false;
	while ((section = elf_nextscn(uses->elf, section))) {
		if (!gelf_getshdr(section, &header))
			return false;
		if (header.sh_type == SHT_REL && !read_relocations(uses, section, &header))
			return false;
	}
	while ((section = elf_nextscn(uses->elf, section))) {
		if (!gelf_getshdr(section, &header))
			return false;
		if (header.sh_type == SHT_PROGBITS && header.sh_flags & SHF_EXECINSTR &&
		    !read_calls(uses, elf_ndxscn(section), section))
			return false;
	}
	return true;
}

struct elf_uses *elf_uses_read(const void *bytes, size_t size)
{
	struct elf_uses *uses = calloc(1, sizeof(*uses));

	if (!uses)
		return NULL;
	uses->bytes = bytes;
	uses->size = size;
	elf_version(EV_CURRENT);
	uses->elf = elf_memory((char *)bytes, size);
	if (!uses->elf || elf_getshdrstrndx(uses->elf, &uses->section_names) ||
	    !find_symbols(uses) || !find_functions(uses) || !read_references(uses)) {
		elf_uses_free(uses);
		return NULL;
	}
	return uses;
}

void elf_uses_free(struct elf_uses *uses)
{
	if (!uses)
		return;
	elf_end(uses->elf);
	for (size_t i = 0; uses->relocated && i < uses->section_count; i++)
		free(uses->relocated[i]);
	free(uses->relocated);
	free(uses->functions);
	free(uses->references);
	free(uses->slots);
	free(uses);
}

static size_t program_function(const struct elf_uses *uses, const char *section,
			       const char *program)
{
	size_t i;

	for (i = 0; i < uses->function_count; i++) {
		if (strcmp(uses->functions[i].name, program) == 0 &&
		    strcmp(section_name(uses, uses->functions[i].section), section) == 0)
			break;
	}
	return i;
}

/* Mark a function and all that it reaches. The result, an array of flags, is the caller's. */
static bool *reached_from(const struct elf_uses *uses, size_t start)
{
	bool *reached = calloc(uses->function_count + 1, sizeof(*reached));
	bool changed = reached && start < uses->function_count;

	if (changed)
		reached[start] = true;
	while (changed) {
		changed = false;
		for (size_t i = 0; i < uses->reference_count; i++) {
			const struct reference *reference = &uses->references[i];

			if (!reference->symbol && reached[reference->from] &&
			    !reached[reference->to]) {
				reached[reference->to] = true;
				changed = true;
			}
		}
	}
	return reached;
}

bool elf_uses_symbol(const struct elf_uses *uses, const char *section, const char *program,
		     const char *symbol)
{
	bool *reached = reached_from(uses, program_function(uses, section, program));
	bool found = false;

	for (size_t i = 0; reached && !found && i < uses->reference_count; i++) {
		const struct reference *reference = &uses->references[i];

		found = reference->symbol && reached[reference->from] &&
			strcmp(reference->symbol, symbol) == 0;
	}
	free(reached);
	return found;
}

bool elf_has_function(const struct elf_uses *uses, const char *section, const char *program,
		      const char *function)
{
	bool *reached = reached_from(uses, program_function(uses, section, program));
	bool found = false;

	for (size_t i = 0; reached && !found && i < uses->function_count; i++)
		found = reached[i] && uses->functions[i].global &&
			strcmp(uses->functions[i].name, function) == 0;
	free(reached);
	return found;
}

bool elf_calls_tail(const struct elf_uses *uses, const char *section, const char *program,
		    const char *tail_section, const char *tail)
{
	size_t function = program_function(uses, tail_section, tail);

	for (size_t i = 0; i < uses->slot_count; i++) {
		if (uses->slots[i].function == function &&
		    elf_uses_symbol(uses, section, program, uses->slots[i].map))
			return true;
	}
	return false;
}

bool elf_is_tail(const struct elf_uses *uses, const char *section, const char *program)
{
	size_t function = program_function(uses, section, program);

	for (size_t i = 0; i < uses->slot_count; i++) {
		if (uses->slots[i].function == function)
			return true;
	}
	return false;
}

bool elf_is_strong(const struct elf_uses *uses, const char *symbol)
{
	for (size_t i = 0; i < uses->symbol_count; i++) {
		GElf_Sym found;

		if (gelf_getsym(uses->symbols, i, &found) && found.st_shndx == SHN_UNDEF &&
		    strcmp(symbol_name(uses, &found), symbol) == 0)
			return GELF_ST_BIND(found.st_info) == STB_GLOBAL;
	}
	return false;
}

void *elf_weakened(const struct elf_uses *uses)
{
	const GElf_Shdr *header = &uses->symbol_header;
	char *copy;

	if (header->sh_offset > uses->size || header->sh_size > uses->size - header->sh_offset)
		return NULL;
	copy = malloc(uses->size);
	if (!copy)
		return NULL;
	memcpy(copy, uses->bytes, uses->size);
	for (size_t i = 0; i < header->sh_size / sizeof(Elf64_Sym); i++) {
		char *place = copy + header->sh_offset + i * sizeof(Elf64_Sym);
		Elf64_Sym symbol;

		memcpy(&symbol, place, sizeof(symbol));
		if (symbol.st_shndx != SHN_UNDEF || ELF64_ST_BIND(symbol.st_info) != STB_GLOBAL)
			continue;
		symbol.st_info = ELF64_ST_INFO(STB_WEAK, ELF64_ST_TYPE(symbol.st_info));
		memcpy(place, &symbol, sizeof(symbol));
	}
	return copy;
}
