// SPDX-License-Identifier: Apache-2.0

// Command bpfload loads every program of eBPF objects into the kernel that it runs on, and prints
// what came of each as one JSON object to a line. It is what `invoke verify` runs in a guest; the
// lines are described in src/bpfmatrix/results/verification.py.
//
// Verifiers run for minutes, objects crash parsers, and kernels run out of memory. So nothing is
// loaded by the process that was started: it gives the work to copies of itself, one for each job,
// ends one that takes too long, and says which program did that.
package main

import (
	"errors"
	"fmt"
	"os"
)

const (
	exitFailed = 1 // not the objects' fault: no child could be started
	exitUsage  = 2
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == workerWord {
		if err := obeyOrders(); err != nil {
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
