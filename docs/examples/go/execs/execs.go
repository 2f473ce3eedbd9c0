// Package execs counts how often each process starts a program.
package execs

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

//go:generate go tool bpf2go -target bpfel execs ../bpf/execs.bpf.c

// Counter counts until it is closed.
type Counter struct {
	objects execsObjects
	link    link.Link
}

// New loads the program and attaches it.
func New() (*Counter, error) {
	// Before 5.11, maps and programs count as locked memory.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, err
	}
	var counter Counter
	if err := loadExecsObjects(&counter.objects, nil); err != nil {
		return nil, fmt.Errorf("load on_exec: %w", err)
	}
	attached, err := link.Tracepoint("sched", "sched_process_exec", counter.objects.OnExec, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach on_exec: %w", err), counter.objects.Close())
	}
	counter.link = attached
	return &counter, nil
}

// Count returns how many programs the process has started since New.
func (c *Counter) Count(pid int) (uint64, error) {
	var count uint64
	err := c.objects.Execs.Lookup(uint32(pid), &count)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, nil
	}
	return count, err
}

// Close detaches the program.
func (c *Counter) Close() error {
	return errors.Join(c.link.Close(), c.objects.Close())
}
