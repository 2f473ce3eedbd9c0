// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// run loads all programs, as many at a time as the settings say, and prints an event for each
// result.
func run(s *settings, out *printer) error {
	started := time.Now()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	// A loader that can't be started at all is an error of the run. One that can't be started
	// later costs the programs that it was started for.
	loader, died, err := startLoader(s)
	if err != nil {
		return err
	} else if died != nil {
		return fmt.Errorf("%s can't be used: %s", s.Loader, died.reason)
	}
	out.print(kernelEvent{
		"kernel", unix.ByteSliceToString(name.Release[:]), kernelArch(),
		loader.name, loader.version, map[string]bool{"btf": haveKernelBTF()},
	})
	q := newQueue(s)
	if err := supervise(s.Jobs, s, q, out, loader); err != nil {
		return err
	}
	if q.startRetry() {
		if err := supervise(1, s, q, out, nil); err != nil {
			return err
		}
	}
	if err := q.checkUnused(); err != nil {
		return err
	}
	out.print(endEvent{"end", time.Since(started).Seconds()})
	return out.err
}

// supervise runs supervisors until the queue has nothing left for them. The first of them uses the
// loader that is given, if there is one.
func supervise(count int, s *settings, q *queue, out *printer, loader *loaderProcess) error {
	var running sync.WaitGroup
	errs := make(chan error, count)
	attaching := &attachLock{}
	for range count {
		v := &supervisor{settings: s, queue: q, out: out, loader: loader, attaching: attaching}
		loader = nil
		running.Go(func() {
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
	// riscv64, s390x and ppc64le have the same name in both.
	return runtime.GOARCH
}

func haveKernelBTF() bool {
	_, err := os.Stat("/sys/kernel/btf/vmlinux")
	return err == nil
}
