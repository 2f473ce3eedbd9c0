// SPDX-License-Identifier: Apache-2.0
// What stands between libbpf and the kernel. The linker lets libbpf call the functions __wrap_NAME
// here in place of NAME (link-options has the list).

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include "loader.h"

struct btf *__real_btf__load_vmlinux_btf(void);
struct btf *__wrap_btf__load_vmlinux_btf(void);
void __real_btf__free(struct btf *btf);
void __wrap_btf__free(struct btf *btf);
int __real_bpf_prog_load(enum bpf_prog_type type, const char *name, const char *license,
			 const struct bpf_insn *insns, size_t count,
			 struct bpf_prog_load_opts *opts);
int __wrap_bpf_prog_load(enum bpf_prog_type type, const char *name, const char *license,
			 const struct bpf_insn *insns, size_t count,
			 struct bpf_prog_load_opts *opts);

// The kernel's BTF has megabytes, and libbpf reads it again for each object, without ever changing
// it. Here it is read once.
static struct btf *kernel_btf;
static int kernel_btf_error;

struct btf *__wrap_btf__load_vmlinux_btf(void)
{
	if (!kernel_btf && !kernel_btf_error) {
		kernel_btf = __real_btf__load_vmlinux_btf();
		if (!kernel_btf)
			kernel_btf_error = errno;
	}
	if (!kernel_btf)
		errno = kernel_btf_error;
	return kernel_btf;
}

void __wrap_btf__free(struct btf *btf)
{
	if (!btf || btf != kernel_btf)
		__real_btf__free(btf);
}

// Kernels take no larger buffer (kernel/bpf/log.c: bpf_verifier_log_attr_valid, and earlier
// kernel/bpf/verifier.c).
#define LOG_SIZE ((__u32) - 1 >> 2)

static char *log_memory;
static struct load_call last_call;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

// bpf_program__clone passes the length of fd_array, which kernels before 6.14 refuse
// (kernel/bpf/syscall.c: bpf_check_uarg_tail_zero), and bpf_object__load does not. So it is left
// out.
int __wrap_bpf_prog_load(enum bpf_prog_type type, const char *name, const char *license,
			 const struct bpf_insn *insns, size_t count,
			 struct bpf_prog_load_opts *opts)
{
	double start = now();
	int fd;

	if (opts && opts->sz > offsetof(struct bpf_prog_load_opts, fd_array_cnt))
		opts->fd_array_cnt = 0;
	fd = __real_bpf_prog_load(type, name, license, insns, count, opts);
	if (opts && log_memory && opts->log_buf == log_memory)
		last_call = (struct load_call){
			.made = true,
			.error = fd < 0 ? errno : 0,
			.seconds = now() - start,
		};
	return fd;
}

void load_call_clear(void)
{
	last_call = (struct load_call){};
}

struct load_call load_call_last(void)
{
	return last_call;
}

char *log_buffer(size_t *size)
{
	if (!log_memory) {
		log_memory = mmap(NULL, LOG_SIZE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (log_memory == MAP_FAILED) {
			perror("memory for the verifier's log");
			exit(1);
		}
	}
	log_memory[0] = '\0';
	*size = LOG_SIZE;
	return log_memory;
}

void log_buffer_release(void)
{
	if (log_memory)
		madvise(log_memory, LOG_SIZE, MADV_DONTNEED);
}

bool is_supported(int probed)
{
	return probed != 0 && probed != -EOPNOTSUPP;
}
