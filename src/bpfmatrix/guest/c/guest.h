/* SPDX-License-Identifier: Apache-2.0
 *
 * What the guest's small programs have in place of a C library: the entry point and system calls.
 *
 * A program includes this header and defines main; what main returns is its exit status. Another
 * architecture needs one more block below: the numbers of its system calls (the kernel's
 * asm/unistd.h), and the registers and the instruction of a system call (syscall(2)).
 */
#ifndef GUEST_H
#define GUEST_H

#if defined(__x86_64__)

enum { SYS_ioctl = 16, SYS_exit = 60, SYS_openat = 257 };

/* A C function expects a return address on the stack. At the entry point there is none, so
 * the stack is not aligned as the compiler assumes.
 */
#define ENTRY_POINT __attribute__((force_align_arg_pointer))

/* Makes a system call; returns its result, or an error number with a minus sign. */
static inline long system_call(long number, long first, long second, long third)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(first), "S"(second), "d"(third)
			 : "rcx", "r11", "memory");
	return result;
}

#elif defined(__aarch64__)

enum { SYS_ioctl = 29, SYS_openat = 56, SYS_exit = 93 };

#define ENTRY_POINT

static inline long system_call(long number, long first, long second, long third)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = first;
	register long x1 __asm__("x1") = second;
	register long x2 __asm__("x2") = third;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
}

#else
#error "guest.h has no system calls of this architecture"
#endif

int main(void);

ENTRY_POINT __attribute__((noreturn)) void _start(void)
{
	system_call(SYS_exit, main(), 0, 0);
	__builtin_unreachable();
}

#endif
