// SPDX-License-Identifier: Apache-2.0

// Command loader-cilium-ebpf loads programs of eBPF objects with cilium/ebpf, as that library does
// it: what it refuses is its verdict. docs/loaders.md describes the protocol.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

func main() {
	err := stopPreemption()
	if err == nil {
		err = serve(os.Stdin, os.NewFile(protocol.RepliesDescriptor, "replies"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loader-cilium-ebpf:", err)
		os.Exit(1)
	}
}

// stopPreemption has Go not preempt threads with signals: the verifier would stop at each of them
// with EAGAIN, and the library would start it again. Go reads this setting only when a program
// starts, so this executes the program again.
func stopPreemption() error {
	const name, value = "GODEBUG", "asyncpreemptoff=1"
	if os.Getenv(name) == value {
		return nil
	}
	if err := os.Setenv(name, value); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(program, os.Args, os.Environ())
}
