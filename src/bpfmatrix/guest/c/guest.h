/* SPDX-License-Identifier: Apache-2.0
 *
 * What the guest's small programs have in place of a C library: the entry point, system calls, and
 * the few functions on memory and text that they need.
 *
 * A program includes this header and defines main; what main returns is its exit status. Another
 * architecture needs one more block below: the numbers of its system calls (the kernel's
 * asm/unistd.h), and the registers and the instruction of a system call (syscall(2)).
 */
#ifndef GUEST_H
#define GUEST_H

#if defined(__x86_64__)

enum {
	SYS_read = 0,
	SYS_write = 1,
	SYS_close = 3,
	SYS_rt_sigprocmask = 14,
	SYS_ioctl = 16,
	SYS_nanosleep = 35,
	SYS_getpid = 39,
	SYS_socket = 41,
	SYS_clone = 56,
	SYS_execve = 59,
	SYS_exit = 60,
	SYS_wait4 = 61,
	SYS_kill = 62,
	SYS_chdir = 80,
	SYS_fchmod = 91,
	SYS_setsid = 112,
	SYS_setgroups = 116,
	SYS_setresuid = 117,
	SYS_setresgid = 119,
	SYS_capset = 126,
	SYS_prctl = 157,
	SYS_chroot = 161,
	SYS_mount = 165,
	SYS_umount2 = 166,
	SYS_getdents64 = 217,
	SYS_clock_settime = 227,
	SYS_openat = 257,
	SYS_mkdirat = 258,
	SYS_unlinkat = 263,
	SYS_ppoll = 271,
	SYS_unshare = 272,
	SYS_signalfd4 = 289,
	SYS_dup3 = 292,
	SYS_pipe2 = 293,
	SYS_prlimit64 = 302,
	SYS_bpf = 321
};

/* The kernel leaves argc at the stack pointer, with the arguments above it, and the stack is
 * aligned to 16 bytes there (System V ABI, Process Initialization). A call keeps that alignment.
 */
#define START_CODE "mov %rsp, %rdi\n\tcall start_program\n"

/* Makes a system call; returns its result, or an error number with a minus sign. */
static inline long system_call5(long number, long first, long second, long third, long fourth,
				long fifth)
{
	register long r10 __asm__("r10") = fourth;
	register long r8 __asm__("r8") = fifth;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(first), "S"(second), "d"(third), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

#elif defined(__aarch64__) || (defined(__riscv) && __riscv_xlen == 64)

/* Both have the numbers of asm-generic/unistd.h. */
enum {
	SYS_dup3 = 24,
	SYS_ioctl = 29,
	SYS_mkdirat = 34,
	SYS_unlinkat = 35,
	SYS_umount2 = 39,
	SYS_mount = 40,
	SYS_chdir = 49,
	SYS_chroot = 51,
	SYS_fchmod = 52,
	SYS_openat = 56,
	SYS_close = 57,
	SYS_pipe2 = 59,
	SYS_getdents64 = 61,
	SYS_read = 63,
	SYS_write = 64,
	SYS_ppoll = 73,
	SYS_signalfd4 = 74,
	SYS_capset = 91,
	SYS_exit = 93,
	SYS_unshare = 97,
	SYS_nanosleep = 101,
	SYS_clock_settime = 112,
	SYS_kill = 129,
	SYS_rt_sigprocmask = 135,
	SYS_setresuid = 147,
	SYS_setresgid = 149,
	SYS_setsid = 157,
	SYS_setgroups = 159,
	SYS_prctl = 167,
	SYS_getpid = 172,
	SYS_socket = 198,
	SYS_clone = 220,
	SYS_execve = 221,
	SYS_wait4 = 260,
	SYS_prlimit64 = 261,
	SYS_bpf = 280
};

#if defined(__aarch64__)

#define START_CODE "mov x0, sp\n\tbl start_program\n"

static inline long system_call5(long number, long first, long second, long third, long fourth,
				long fifth)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = first;
	register long x1 __asm__("x1") = second;
	register long x2 __asm__("x2") = third;
	register long x3 __asm__("x3") = fourth;
	register long x4 __asm__("x4") = fifth;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory");
	return x0;
}

#else

/* A linker may replace addresses by distances from the register gp, so it is set first. */
#define START_CODE                                                                                 \
	".option push\n\t.option norelax\n\tlla gp, __global_pointer$\n\t.option pop\n\t"          \
	"mv a0, sp\n\tcall start_program\n"

static inline long system_call5(long number, long first, long second, long third, long fourth,
				long fifth)
{
	register long a7 __asm__("a7") = number;
	register long a0 __asm__("a0") = first;
	register long a1 __asm__("a1") = second;
	register long a2 __asm__("a2") = third;
	register long a3 __asm__("a3") = fourth;
	register long a4 __asm__("a4") = fifth;

	__asm__ volatile("ecall"
			 : "+r"(a0)
			 : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4)
			 : "memory");
	return a0;
}

#endif

#elif defined(__s390x__)

enum {
	SYS_exit = 1,
	SYS_read = 3,
	SYS_write = 4,
	SYS_close = 6,
	SYS_execve = 11,
	SYS_chdir = 12,
	SYS_getpid = 20,
	SYS_mount = 21,
	SYS_kill = 37,
	SYS_umount2 = 52,
	SYS_ioctl = 54,
	SYS_chroot = 61,
	SYS_setsid = 66,
	SYS_fchmod = 94,
	SYS_wait4 = 114,
	SYS_clone = 120,
	SYS_nanosleep = 162,
	SYS_prctl = 172,
	SYS_rt_sigprocmask = 175,
	SYS_capset = 185,
	SYS_setgroups = 206,
	SYS_setresuid = 208,
	SYS_setresgid = 210,
	SYS_getdents64 = 220,
	SYS_clock_settime = 259,
	SYS_openat = 288,
	SYS_mkdirat = 289,
	SYS_unlinkat = 294,
	SYS_ppoll = 302,
	SYS_unshare = 303,
	SYS_signalfd4 = 322,
	SYS_pipe2 = 325,
	SYS_dup3 = 326,
	SYS_prlimit64 = 334,
	SYS_bpf = 351,
	SYS_socket = 359
};

/* Below the stack pointer, a function finds 160 bytes in which it saves the caller's registers. */
#define START_CODE "lgr %r2, %r15\n\taghi %r15, -160\n\tbrasl %r14, start_program\n"

static inline long system_call5(long number, long first, long second, long third, long fourth,
				long fifth)
{
	register long r1 __asm__("r1") = number;
	register long r2 __asm__("r2") = first;
	register long r3 __asm__("r3") = second;
	register long r4 __asm__("r4") = third;
	register long r5 __asm__("r5") = fourth;
	register long r6 __asm__("r6") = fifth;

	__asm__ volatile("svc 0"
			 : "+d"(r2)
			 : "d"(r1), "d"(r3), "d"(r4), "d"(r5), "d"(r6)
			 : "memory");
	return r2;
}

#elif defined(__powerpc64__) && _CALL_ELF == 2

enum {
	SYS_exit = 1,
	SYS_read = 3,
	SYS_write = 4,
	SYS_close = 6,
	SYS_execve = 11,
	SYS_chdir = 12,
	SYS_getpid = 20,
	SYS_mount = 21,
	SYS_kill = 37,
	SYS_umount2 = 52,
	SYS_ioctl = 54,
	SYS_chroot = 61,
	SYS_setsid = 66,
	SYS_setgroups = 81,
	SYS_fchmod = 94,
	SYS_wait4 = 114,
	SYS_clone = 120,
	SYS_nanosleep = 162,
	SYS_setresuid = 164,
	SYS_setresgid = 169,
	SYS_prctl = 171,
	SYS_rt_sigprocmask = 174,
	SYS_capset = 184,
	SYS_getdents64 = 202,
	SYS_clock_settime = 245,
	SYS_ppoll = 281,
	SYS_unshare = 282,
	SYS_openat = 286,
	SYS_mkdirat = 287,
	SYS_unlinkat = 292,
	SYS_signalfd4 = 313,
	SYS_dup3 = 316,
	SYS_pipe2 = 317,
	SYS_prlimit64 = 325,
	SYS_socket = 326,
	SYS_bpf = 361
};

/* Register 12 has the address of _start, from which that of the data follows. The caller of a
 * function has a frame of at least 32 bytes (OpenPOWER ELF V2 ABI, 2.2.3 and 4.1.2).
 */
#define START_CODE                                                                                 \
	"addis 2, 12, .TOC.-_start@ha\n\taddi 2, 2, .TOC.-_start@l\n\t"                            \
	"mr 3, 1\n\tli 0, 0\n\tstdu 0, -32(1)\n\tbl start_program\n\tnop\n"

/* A failed system call sets a bit of the condition register, and returns the number without a sign.
 */
static inline long system_call5(long number, long first, long second, long third, long fourth,
				long fifth)
{
	register long r0 __asm__("r0") = number;
	register long r3 __asm__("r3") = first;
	register long r4 __asm__("r4") = second;
	register long r5 __asm__("r5") = third;
	register long r6 __asm__("r6") = fourth;
	register long r7 __asm__("r7") = fifth;

	__asm__ volatile("sc\n\tbns+ 1f\n\tneg %1, %1\n1:"
			 : "+r"(r0), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r7)
			 :
			 : "r8", "r9", "r10", "r11", "r12", "cr0", "ctr", "memory");
	return r3;
}

#else
#error "guest.h has no system calls of this architecture"
#endif

/* System calls that are as young as this have the same numbers on all architectures. */
enum { SYS_move_mount = 429, SYS_fsopen = 430, SYS_fsconfig = 431, SYS_fsmount = 432 };

static inline long system_call(long number, long first, long second, long third, long fourth)
{
	return system_call5(number, first, second, third, fourth, 0);
}

/* Makes a process that shares what `flags` say: clone(2). Returns its id, or 0 in the new one. */
static inline long clone_process(long flags)
{
#if defined(__s390x__)
	return system_call(SYS_clone, 0, flags, 0, 0);
#else
	return system_call(SYS_clone, flags, 0, 0, 0);
#endif
}

/* The bits of a request of ioctl(2) that say how its argument is used: asm/ioctl.h. */
#if defined(__powerpc64__)
enum { IOC_NONE = 0x20000000 };
#define IOC_WRITE 0x80000000
#else
enum { IOC_NONE = 0 };
#define IOC_WRITE 0x40000000
#endif

/* The same values on all architectures: the kernel's include/uapi/linux/fcntl.h, and
 * asm-generic/fcntl.h (O_DIRECTORY differs on arm64 and powerpc).
 */
enum {
	AT_FDCWD = -100,
	O_RDONLY = 0,
	O_WRONLY = 1,
	O_CREAT = 0100,
	O_EXCL = 0200,
	O_TRUNC = 01000
};

int main(int count, char **words);

__attribute__((used, noreturn)) void start_program(long *stack)
{
	system_call(SYS_exit, main((int)stack[0], (char **)(stack + 1)), 0, 0, 0);
	__builtin_unreachable();
}

__asm__(".text\n.globl _start\n_start:\n\t" START_CODE);

/* The compiler may call these two for code that does not. */
__attribute__((no_builtin, unused)) void *memcpy(void *to, const void *from, unsigned long size)
{
	for (unsigned long at = 0; at < size; at++)
		((char *)to)[at] = ((const char *)from)[at];
	return to;
}

__attribute__((no_builtin, unused)) void *memset(void *to, int byte, unsigned long size)
{
	for (unsigned long at = 0; at < size; at++)
		((char *)to)[at] = (char)byte;
	return to;
}

#endif
