// SPDX-License-Identifier: Apache-2.0

// Command bpfload loads every program of eBPF objects into the kernel that it runs on, and prints
// each result as one JSON object per line. It is what `invoke verify` runs in a guest; the lines
// are described in src/bpfmatrix/results/verification.py.
//
// Verifiers run for minutes, objects crash parsers, and kernels run out of memory. So the process
// that is started loads nothing itself: it starts copies of itself as workers, as many as --jobs
// says, kills a worker that takes too long, and reports which program it was loading.
package main

import (
	"errors"
	"fmt"
	"os"
)

const (
	exitFailed = 1 // not because of an object: for example, no worker could be started
	exitUsage  = 2
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == workerArgument {
		if err := serveRequests(); err != nil {
			fmt.Fprintln(os.Stderr, "bpfload:", err)
			os.Exit(exitFailed)
		}
		return
	}
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
