/* SPDX-License-Identifier: Apache-2.0
 *
 * reseed-random: makes the kernel use at once what was written to /dev/urandom.
 *
 * Two machines that are restored from one template begin with the same state of the kernel's random
 * number generator. What is written to /dev/urandom is mixed in, but takes effect only when the
 * generator is seeded the next time: up to a second later (Linux 5.18 and newer) or minutes later.
 *
 * The exit status is 0, or the error number of the system call that failed.
 */
#include "guest.h"

/* The kernel's include/uapi/linux/random.h: _IO('R', 7), since Linux 4.14. */
enum { RNDRESEEDCRNG = 0x5207 };

int main(int count, char **words)
{
	long device = system_call(SYS_openat, AT_FDCWD, (long)"/dev/urandom", O_RDONLY, 0);

	(void)count;
	(void)words;
	if (device < 0)
		return -device;
	return -system_call(SYS_ioctl, device, RNDRESEEDCRNG, 0, 0);
}
