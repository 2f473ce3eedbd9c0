/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * The oldest kernel release that an object can run on, written once, in the object itself.
 *
 *     REQUIRES_KERNEL("5.17", "bpf_loop");
 *
 * puts the NUL-terminated string "5.17 bpf_loop" (MAJOR.MINOR, one space, what came with that
 * release) into the ELF section .bpfmatrix.requires. The section's name and the string's form are
 * the contract: the tests in support/ and the bpfmatrix tool read them, and skip the object, with
 * that reason, on an older kernel. Loaders know nothing of the section and leave it alone, as it is
 * neither code nor one of .data, .rodata and .bss. Without the macro an object needs 5.4.
 *
 * An object declares at most one: a second one redefines the symbol, and does not compile.
 */
#ifndef BPFMATRIX_REQUIRES_H
#define BPFMATRIX_REQUIRES_H

#define REQUIRES_KERNEL(release, feature)                                                          \
	static const char bpfmatrix_requires[]                                                     \
		__attribute__((section(".bpfmatrix.requires"), used)) = release " " feature

#endif
