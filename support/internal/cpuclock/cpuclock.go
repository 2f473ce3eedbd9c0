// SPDX-License-Identifier: Apache-2.0

// Package cpuclock runs an eBPF program at regular intervals on every CPU, as a sampling profiler
// does.
package cpuclock

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Events are the perf events that a program is attached to, one for each CPU.
type Events struct{ descriptors []int }

// Attach starts to run a program of type perf_event on each CPU, once per interval.
func Attach(program *ebpf.Program, interval time.Duration) (*Events, error) {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, // an emulated machine has no hardware counters
		Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		// A timer of the CPU. PERF_COUNT_SW_TASK_CLOCK would only run while one task runs.
		Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Sample: uint64(interval),
		Bits:   unix.PerfBitDisabled,
	}
	const allProcesses, noGroup = -1, -1
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, err
	}
	events := &Events{}
	for cpu := range cpus {
		event, err := unix.PerfEventOpen(&attr, allProcesses, cpu, noGroup, unix.PERF_FLAG_FD_CLOEXEC)
		if errors.Is(err, unix.ENODEV) {
			continue // possible, but offline
		} else if err != nil {
			events.Close()
			return nil, fmt.Errorf("perf_event_open on CPU %d: %w", cpu, err)
		}
		events.descriptors = append(events.descriptors, event)
		if err := unix.IoctlSetInt(event, unix.PERF_EVENT_IOC_SET_BPF, program.FD()); err != nil {
			events.Close()
			return nil, fmt.Errorf("attach on CPU %d: %w", cpu, err)
		}
		if err := unix.IoctlSetInt(event, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
			events.Close()
			return nil, fmt.Errorf("enable on CPU %d: %w", cpu, err)
		}
	}
	return events, nil
}

// Pause stops sampling. When it returns, the program is not running on any CPU.
func (e *Events) Pause() error {
	for _, event := range e.descriptors {
		if err := unix.IoctlSetInt(event, unix.PERF_EVENT_IOC_DISABLE, 0); err != nil {
			return err
		}
	}
	return nil
}

// Close detaches the program.
func (e *Events) Close() {
	for _, event := range e.descriptors {
		unix.Close(event)
	}
	e.descriptors = nil
}
