/* SPDX-License-Identifier: Apache-2.0
 *
 * refresh-guest: gives a guest that was restored from a template its own time and randomness.
 *
 *     refresh-guest [SECONDS TEXT]
 *
 * SECONDS is the time since 1970. TEXT is mixed into the kernel's random number generator, which
 * all machines that are restored from one template have in the same state. What is written to
 * /dev/urandom takes effect only when the generator is seeded the next time: up to a second later
 * (Linux 5.18 and newer) or minutes later. So it is seeded now, also without arguments.
 *
 * The exit status is 0, or the error number of the system call that failed.
 */
#include "guest.h"

/* The kernel's include/uapi/linux/time.h; linux/random.h: _IO('R', 7), since Linux 4.14. */
enum { CLOCK_REALTIME = 0, RNDRESEEDCRNG = IOC_NONE | 0x5207 };

int main(int count, char **words)
{
	long device = system_call(SYS_openat, AT_FDCWD, (long)"/dev/urandom",
				  count > 2 ? O_WRONLY : O_RDONLY, 0);
	long result = 0, size = 0;

	if (device < 0)
		return -device;
	if (count > 2) {
		long time[2] = {0, 0};

		for (const char *digit = words[1]; *digit; digit++)
			time[0] = time[0] * 10 + (*digit - '0');
		while (words[2][size])
			size++;
		result = system_call(SYS_clock_settime, CLOCK_REALTIME, (long)time, 0, 0);
		system_call(SYS_write, device, (long)words[2], size, 0);
	}
	if (result < 0)
		return -result;
	return -system_call(SYS_ioctl, device, RNDRESEEDCRNG, 0, 0);
}
