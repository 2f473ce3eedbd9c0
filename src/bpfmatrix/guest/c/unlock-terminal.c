/* SPDX-License-Identifier: Apache-2.0
 *
 * unlock-terminal: unlocks the pseudo-terminal whose master is the standard input. Until then, the
 * terminal's other side can't be opened.
 *
 * The exit status is 0, or the error number of the system call that failed.
 */
#include "guest.h"

/* The kernel's include/uapi/asm-generic/ioctls.h: _IOW('T', 0x31, int). */
#define TIOCSPTLCK (IOC_WRITE | 0x00045431)
enum { STDIN = 0 };

int main(int count, char **words)
{
	int locked = 0;

	(void)count;
	(void)words;
	return -system_call(SYS_ioctl, STDIN, TIOCSPTLCK, (long)&locked, 0);
}
