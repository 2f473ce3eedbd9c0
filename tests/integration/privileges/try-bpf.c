/* SPDX-License-Identifier: Apache-2.0
 *
 * try-bpf: makes the calls of bpf(2) that its arguments name, and prints for each whether it
 * worked, or the error number with a minus sign, as in `map: ok` and `map: -1`. It always exits
 * with 0.
 *
 *     map          makes a small map
 *     big          makes a map of 4 MB
 *     load         loads a socket filter, which any user may do who may use bpf(2)
 *     probe        loads a kprobe program that reads the kernel's memory
 *     token        makes a token of /sys/fs/bpf
 *     token-map    makes a hash map with the token
 *     token-load   loads a kprobe program with the token
 */
#include "../../../src/bpfmatrix/guest/c/guest.h"

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

/* include/uapi/linux/bpf.h of the kernel */
enum { MAP_CREATE = 0, PROG_LOAD = 5, TOKEN_CREATE = 36 };
enum { HASH = 1, ARRAY = 2, SOCKET_FILTER = 1, KPROBE = 2, F_TOKEN_FD = 1 << 16 };

struct instruction {
	u8 code, registers;
	short offset;
	int value;
};

struct map {
	u32 type, key_size, value_size, max_entries, flags, inner_map, numa_node;
	char name[16];
	u32 ifindex, btf, btf_key, btf_value, btf_vmlinux_value;
	u64 extra;
	int value_type_btf, token;
};

struct program {
	u32 type, count;
	u64 instructions, license;
	u32 log_level, log_size;
	u64 log;
	u32 kernel_version, flags;
	char name[16];
	u32 ifindex, attach_type, btf, func_info_size;
	u64 func_info;
	u32 func_info_count, line_info_size;
	u64 line_info;
	u32 line_info_count, attach_btf, attach_program, core_count;
	u64 fd_array, core;
	u32 core_size, log_true_size;
	int token;
	u32 fd_array_count;
};

static const struct instruction nothing[] = {
	{0xb7, 0, 0, 0}, /* r0 = 0 */
	{0x95, 0, 0, 0}, /* exit */
};

static const struct instruction reads_kernel[] = {
	{0xbf, 0xa1, 0, 0},  /* r1 = r10 */
	{0x07, 0x01, 0, -8}, /* r1 += -8 */
	{0xb7, 0x02, 0, 8},  /* r2 = 8 */
	{0xb7, 0x03, 0, 0},  /* r3 = 0 */
	{0x85, 0, 0, 113},   /* call bpf_probe_read_kernel */
	{0xb7, 0, 0, 0},     /* r0 = 0 */
	{0x95, 0, 0, 0},     /* exit */
};

static long token = -1;

static int equal(const char *one, const char *other)
{
	while (*one && *one == *other)
		one++, other++;
	return *one == *other;
}

static void print(const char *text)
{
	unsigned long size = 0;

	while (text[size])
		size++;
	system_call(SYS_write, 1, (long)text, size, 0);
}

/* Kernels that know fewer fields take a longer structure, if the rest of it is 0. */
static long make_map(u32 type, u32 value_size, u32 entries)
{
	struct map map = {
		.type = type, .key_size = 4, .value_size = value_size, .max_entries = entries};

	if (token >= 0) {
		map.flags = F_TOKEN_FD;
		map.token = token;
	}
	return system_call(SYS_bpf, MAP_CREATE, (long)&map, sizeof(map), 0);
}

static long load(u32 type, const struct instruction *instructions, u32 count)
{
	struct program program = {.type = type,
				  .count = count,
				  .instructions = (u64)instructions,
				  .license = (u64) "GPL"};

	if (token >= 0) {
		program.flags = F_TOKEN_FD;
		program.token = token;
	}
	return system_call(SYS_bpf, PROG_LOAD, (long)&program, sizeof(program), 0);
}

static long make_token(void)
{
	u32 attributes[2] = {0,
			     system_call(SYS_openat, AT_FDCWD, (long)"/sys/fs/bpf", O_RDONLY, 0)};

	token = system_call(SYS_bpf, TOKEN_CREATE, (long)attributes, sizeof(attributes), 0);
	return token;
}

static long attempt(const char *word)
{
	if (equal(word, "map"))
		return make_map(ARRAY, 8, 1);
	if (equal(word, "big"))
		return make_map(ARRAY, 64, 1 << 16);
	if (equal(word, "load"))
		return load(SOCKET_FILTER, nothing, 2);
	if (equal(word, "probe"))
		return load(KPROBE, reads_kernel, 7);
	if (equal(word, "token"))
		return make_token();
	if (equal(word, "token-map"))
		return make_map(HASH, 8, 1);
	if (equal(word, "token-load"))
		return load(KPROBE, nothing, 2);
	return -22;
}

int main(int count, char **words)
{
	for (int at = 1; at < count; at++) {
		long result = attempt(words[at]);
		char number[8] = "-";
		int digits = 1;

		print(words[at]);
		print(": ");
		if (result >= 0) {
			print("ok\n");
			continue;
		}
		if (-result >= 100)
			number[digits++] = '0' + -result / 100;
		if (-result >= 10)
			number[digits++] = '0' + -result / 10 % 10;
		number[digits++] = '0' + -result % 10;
		number[digits] = '\n';
		print(number);
	}
	return 0;
}
