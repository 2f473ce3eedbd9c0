// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"sync"
	"time"

	"github.com/bpfmatrix/bpfmatrix/support/internal/requirement"
)

// run loads all programs, as many at a time as the settings say, and prints an event for each
// result.
func run(s *settings, out *printer) error {
	started := time.Now()
	release, err := requirement.KernelRelease()
	if err != nil {
		return err
	}
	out.print(kernelEvent{"kernel", release, kernelArch(), map[string]bool{"btf": haveKernelBTF()}})
	q := newQueue(s)
	if err := supervise(s.Jobs, s, q, out); err != nil {
		return err
	}
	if q.startRetry() {
		if err := supervise(1, s, q, out); err != nil {
			return err
		}
	}
	if err := q.checkUnused(); err != nil {
		return err
	}
	out.print(endEvent{"end", time.Since(started).Seconds()})
	return out.err
}

// supervise runs supervisors until the queue has nothing left for them.
func supervise(count int, s *settings, q *queue, out *printer) error {
	var running sync.WaitGroup
	errs := make(chan error, count)
	for range count {
		running.Go(func() {
			v := &supervisor{settings: s, queue: q, out: out}
			if err := v.run(); err != nil {
				errs <- err
				q.stop()
			}
		})
	}
	running.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// kernelArch returns the architecture as `uname -m` has it.
func kernelArch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}
