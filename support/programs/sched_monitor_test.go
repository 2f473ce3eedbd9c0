// SPDX-License-Identifier: Apache-2.0

//go:build integration

package programs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/perf"
	"golang.org/x/sys/unix"

	"github.com/bpfmatrix/bpfmatrix/support/internal/bpftest"
)

// enum task_event_kind
type taskEventKind uint32

const (
	taskForked   taskEventKind = 1
	taskExecuted taskEventKind = 2
	taskExited   taskEventKind = 3
)

func (k taskEventKind) String() string {
	names := map[taskEventKind]string{taskForked: "fork", taskExecuted: "exec", taskExited: "exit"}
	if name, ok := names[k]; ok {
		return name
	}
	return fmt.Sprintf("taskEventKind(%d)", uint32(k))
}

// struct task_event
type taskEvent struct {
	Time     uint64
	Kind     taskEventKind
	PID      uint32
	TGID     uint32
	PPID     uint32
	ExitCode int32
	Comm     comm
	_        uint32
}

func TestSchedMonitor(t *testing.T) {
	monitor := newSchedMonitor(t)
	ownPID := uint32(os.Getpid())

	t.Run("exec_exit", func(t *testing.T) { testExecExit(t, monitor) })

	t.Run("exit_code", func(t *testing.T) {
		for _, want := range []int{0, 1, 42, 255} {
			status := monitor.exitStatusOf(t, func() uint32 {
				cmd := childCommand(t, childExits, fmt.Sprint(want))
				cmd.Run() // its error is the exit status, which the events must show, too
				return uint32(cmd.Process.Pid)
			})
			if !status.Exited() || status.ExitStatus() != want {
				t.Errorf("status %#x, want an exit with %d", uint32(status), want)
			}
		}
	})

	t.Run("killed_by_signal", func(t *testing.T) {
		status := monitor.exitStatusOf(t, func() uint32 {
			cmd := childCommand(t, childWaits)
			startChild(t, cmd)
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return uint32(cmd.Process.Pid)
		})
		if !status.Signaled() || status.Signal() != syscall.SIGKILL {
			t.Errorf("status %#x, want a death by SIGKILL", uint32(status))
		}
	})

	t.Run("thread_is_no_process", func(t *testing.T) {
		exit := monitor.observe(t, func() uint32 { return endThread(t) }, taskExited)[0]
		if exit.TGID != ownPID || exit.ExitCode != 0 {
			t.Errorf("thread %d: tgid %d, exit code %d, want %d, 0", exit.PID, exit.TGID, exit.ExitCode, ownPID)
		}
	})
}

func testExecExit(t *testing.T, monitor *schedMonitor) {
	ownPID := uint32(os.Getpid())
	var cmd *exec.Cmd
	var pid uint32
	events := monitor.eventsOf(t, func() uint32 {
		cmd = childCommand(t, childExits, "0")
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		pid = uint32(cmd.Process.Pid)
		return pid
	})
	kinds := make([]taskEventKind, 0, len(events))
	for _, event := range events {
		kinds = append(kinds, event.Kind)
		if event.TGID != pid || event.PPID != ownPID {
			t.Errorf("%v: tgid %d, ppid %d, want %d, %d", event.Kind, event.TGID, event.PPID, pid, ownPID)
		}
	}
	if want := []taskEventKind{taskForked, taskExecuted, taskExited}; !slices.Equal(kinds, want) {
		t.Errorf("events in order of time: %v, want %v", kinds, want)
	}
	for _, event := range events {
		if event.Kind != taskForked && event.Comm.String() != commOf(cmd.Path) {
			t.Errorf("%v: comm %q, want %q", event.Kind, event.Comm, commOf(cmd.Path))
		}
	}
}

// endThread ends a thread of this process other than the first one, and returns its id.
func endThread(t *testing.T) uint32 {
	t.Helper()
	tids := make(chan uint32)
	for range 100 {
		// When a goroutine ends while it is locked to its thread, Go ends that thread. The first
		// thread is an exception: it sleeps from then on, so the next try gets another thread.
		go func() {
			runtime.LockOSThread()
			tids <- uint32(unix.Gettid())
		}()
		if tid := <-tids; tid != uint32(os.Getpid()) {
			return tid
		}
	}
	t.Fatal("every goroutine ran on the first thread")
	return 0
}

// A schedMonitor keeps each event that it has read.
type schedMonitor struct {
	programs map[string]*ebpf.Program
	reader   *perf.Reader
	events   []taskEvent
}

func newSchedMonitor(t *testing.T) *schedMonitor {
	t.Helper()
	collection := bpftest.Load(t, "sched_monitor")
	reader, err := perf.NewReader(collection.Maps["events"], 16*os.Getpagesize())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	for program, tracepoint := range map[string]string{
		"on_fork": "sched_process_fork",
		"on_exec": "sched_process_exec",
		"on_exit": "sched_process_exit",
	} {
		attachRawTracepoint(t, tracepoint, collection.Programs[program])
	}
	return &schedMonitor{programs: collection.Programs, reader: reader}
}

// observe calls run, which starts or ends a thread (or both) and returns its id. It returns the
// first event of each kind for that thread. If an event is missing because of a recursion miss, it
// calls run again.
func (m *schedMonitor) observe(t *testing.T, run func() uint32, kinds ...taskEventKind) []taskEvent {
	t.Helper()
	for range 10 {
		before := bpftest.RecursionMisses(t, m.programs)
		tid := run()
		events := make([]taskEvent, 0, len(kinds))
		for _, kind := range kinds {
			event, seen := m.await(t, before, func(event taskEvent) bool {
				return event.PID == tid && event.Kind == kind
			})
			if seen {
				events = append(events, event)
			}
		}
		if len(events) == len(kinds) {
			return events
		}
		t.Logf("thread %d: %d recursion misses", tid, bpftest.RecursionMisses(t, m.programs)-before)
	}
	t.Fatal("an event was missing each time, because of recursion")
	return nil
}

// await returns the first event that matches, which may have been read already. It returns false if
// no event matches and the kernel counts more recursion misses than before.
func (m *schedMonitor) await(
	t *testing.T, before uint64, matches func(taskEvent) bool,
) (taskEvent, bool) {
	t.Helper()
	if i := slices.IndexFunc(m.events, matches); i >= 0 {
		return m.events[i], true
	}
	for deadline := time.Now().Add(eventTimeout); ; {
		m.reader.SetDeadline(time.Now().Add(time.Second))
		record, err := m.reader.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if bpftest.RecursionMisses(t, m.programs) > before {
				return taskEvent{}, false
			} else if time.Now().After(deadline) {
				t.Fatalf("no such event within %v; the events were: %+v", eventTimeout, m.events)
			}
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if record.LostSamples > 0 {
			t.Fatalf("%d events lost", record.LostSamples)
		}
		var event taskEvent
		err = binary.Read(bytes.NewReader(record.RawSample), binary.NativeEndian, &event)
		if err != nil {
			t.Fatalf("event of %d bytes: %v", len(record.RawSample), err)
		}
		m.events = append(m.events, event)
		if matches(event) {
			return event, true
		}
	}
}

// eventsOf returns the events of the first thread of a process, sorted by time. Each CPU has its
// own buffer, so events can be read in another order.
func (m *schedMonitor) eventsOf(t *testing.T, run func() uint32) []taskEvent {
	t.Helper()
	pid := m.observe(t, run, taskForked, taskExecuted, taskExited)[0].PID
	var events []taskEvent
	for _, event := range m.events {
		if event.PID == pid {
			events = append(events, event)
		}
	}
	slices.SortFunc(events, func(a, b taskEvent) int { return int(int64(a.Time - b.Time)) })
	return events
}

func (m *schedMonitor) exitStatusOf(t *testing.T, run func() uint32) syscall.WaitStatus {
	t.Helper()
	return syscall.WaitStatus(m.observe(t, run, taskExited)[0].ExitCode)
}
