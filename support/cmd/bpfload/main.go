// SPDX-License-Identifier: Apache-2.0

// Command bpfload loads every program of eBPF objects into the kernel that it runs on, and prints
// each result as one JSON object per line. It is what `invoke verify` runs in a guest; the lines
// are described in src/bpfmatrix/results/verification.py.
//
// It loads nothing itself, and knows nothing of libraries that do: it starts loaders, as many as
// --jobs says, and speaks the protocol of docs/loaders.md to them. Verifiers run for minutes,
// objects crash parsers, and kernels run out of memory. So it kills a loader that takes too long,
// starts another one where one died, and reports which program that was about.
package main

import (
	"errors"
	"fmt"
	"os"
)

const (
	exitFailed = 1 // not because of an object: for example, no loader could be started
	exitUsage  = 2
)

func main() {
	settings, err := parse(os.Args[1:])
	if err == nil {
		err = run(settings, &printer{out: os.Stdout})
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(os.Stderr, "bpfload:", usage)
		os.Exit(exitUsage)
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "bpfload:", err)
		os.Exit(exitFailed)
	}
}
