// SPDX-License-Identifier: Apache-2.0

// Package programs holds the tests of the programs in ebpf/. Each test loads an object, causes the
// events that its programs observe, and checks what they report. The tests need the build tag
// integration, root, and a kernel that does nothing else at the same time, so bpfmatrix runs them
// in a virtual machine.
//
// All tests are in one package, so that they are one executable: more executables would take more
// time to link, and more time to load in a guest.
package programs
