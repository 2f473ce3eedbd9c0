/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * Declares the oldest kernel release that an object can run on, in the object itself.
 *
 *     REQUIRES_KERNEL("5.17", "bpf_loop");
 *
 * puts the NUL-terminated string "5.17 bpf_loop" (MAJOR.MINOR, one space, the feature that came
 * with that release) into the ELF section .bpfmatrix.requires. The name of the section and the
 * format of the string are an interface: the tests in support/ and bpfmatrix read them, and skip
 * the object on an older kernel, with that reason. Loaders ignore the section, as it is neither
 * code nor one of .data, .rodata and .bss. Without this macro, an object needs 5.4.
 *
 * An object has at most one such declaration: a second one redefines the symbol, and does not
 * compile.
 */
#ifndef BPFMATRIX_REQUIRES_H
#define BPFMATRIX_REQUIRES_H

#define REQUIRES_KERNEL(release, feature)                                                          \
	static const char bpfmatrix_requires[]                                                     \
		__attribute__((section(".bpfmatrix.requires"), used)) = release " " feature

#endif
