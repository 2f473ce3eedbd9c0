// SPDX-License-Identifier: Apache-2.0

// Package programs holds the tests of the programs in ebpf/: each loads an object, makes the thing
// happen that its programs watch, and checks what came out. They need the build tag integration, root,
// and a kernel of which nothing else is asked at the time: bpfmatrix runs them in a virtual machine.
//
// All of them are one package, and so one executable: each one more would have to be linked, and read
// by a guest.
package programs
