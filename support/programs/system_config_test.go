// SPDX-License-Identifier: Apache-2.0

//go:build integration

package programs

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/bpfmatrix/bpfmatrix/support/internal/bpftest"
	"github.com/bpfmatrix/bpfmatrix/support/internal/requirement"
)

// struct task_view
type taskView struct {
	StartTime  uint64
	PID        uint32
	TGID       uint32
	PPID       uint32
	State      uint32
	StaticPrio int32
	Comm       comm
	Release    [65]byte
	Filled     uint8
	_          [2]byte
}

// Fields of /proc/PID/stat, numbered as in proc(5).
const (
	statStateField     = 3
	statParentField    = 4
	statStartTimeField = 22
	// USER_HZ, in which procfs counts time: 100 on every architecture that Go knows.
	ticksPerSecond = 100
)

func TestSystemConfig(t *testing.T) {
	// The program describes one thread, so this test must stay on one thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid := unix.Gettid()

	collection := bpftest.Load(t, "system_config", bpftest.SetVariable("target_tid", uint32(tid)))
	attachRawTracepoint(t, "sys_enter", collection.Programs["on_sys_enter"])
	view := func() taskView {
		t.Helper()
		return readView(t, collection)
	}

	process, thread := readStat(t, "/proc/self/stat"), readStat(t, "/proc/thread-self/stat")
	threadComm := strings.TrimSpace(readFile(t, "/proc/thread-self/comm"))
	release, err := requirement.KernelRelease()
	if err != nil {
		t.Fatal(err)
	}
	seen := view()
	const newComm, newNice = "renamed", 7
	changed := withCommAndNice(t, threadComm, newComm, newNice, view)

	t.Run("pid_and_tgid", func(t *testing.T) {
		if seen.PID != uint32(tid) || seen.TGID != uint32(os.Getpid()) {
			t.Errorf("got %d and %d, want %d and %d", seen.PID, seen.TGID, tid, os.Getpid())
		}
	})
	t.Run("parent", func(t *testing.T) {
		if got, want := fmt.Sprint(seen.PPID), process.field(statParentField); got != want {
			t.Errorf("got %s, procfs says %s", got, want)
		}
	})
	t.Run("start_time", func(t *testing.T) {
		ticks := seen.StartTime / (1e9 / ticksPerSecond)
		if got, want := fmt.Sprint(ticks), process.field(statStartTimeField); got != want {
			t.Errorf("got %s ticks (%d ns), procfs says %s", got, seen.StartTime, want)
		}
	})
	t.Run("state", func(t *testing.T) {
		const taskRunning = 0
		if want := thread.field(statStateField); seen.State != taskRunning || want != "R" {
			t.Errorf("got %d, procfs says %s, want %d and R", seen.State, want, taskRunning)
		}
	})
	t.Run("comm", func(t *testing.T) {
		if got := seen.Comm.String(); got != threadComm {
			t.Errorf("got %q, procfs says %q", got, threadComm)
		}
		if got := changed.Comm.String(); got != newComm {
			t.Errorf("after prctl: got %q, want %q", got, newComm)
		}
	})
	t.Run("nice", func(t *testing.T) {
		const defaultPrio = 120
		if got := changed.StaticPrio - defaultPrio; got != newNice {
			t.Errorf("got %d, want %d", got, newNice)
		}
	})
	t.Run("uts_release", func(t *testing.T) {
		if got := unix.ByteSliceToString(seen.Release[:]); got != release {
			t.Errorf("got %q, uname says %q", got, release)
		}
	})
}

// readView makes a system call, and returns what the program saw when this thread entered it.
func readView(t *testing.T, collection *ebpf.Collection) (view taskView) {
	t.Helper()
	for range 10 {
		before := bpftest.RecursionMisses(t, collection.Programs)
		// The lookup is that system call: the program fills in the entry before the lookup returns
		// it.
		if err := collection.Maps["view"].Lookup(uint32(0), &view); err != nil {
			t.Fatal(err)
		}
		if bpftest.RecursionMisses(t, collection.Programs) > before {
			continue // the program may have missed this system call
		}
		if view.Filled != 1 {
			t.Fatal("the program did not see this thread's system call")
		}
		return view
	}
	t.Fatal("the program missed a system call each time, because of recursion")
	return view
}

// withCommAndNice calls view while the calling thread has another comm and nice value.
func withCommAndNice(t *testing.T, oldComm, comm string, nice int, view func() taskView) taskView {
	t.Helper()
	const thisThread, defaultNice = 0, 0
	set := func(comm string, nice int) {
		t.Helper()
		name, err := unix.BytePtrFromString(comm)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0); err != nil {
			t.Fatalf("prctl: %v", err)
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, thisThread, nice); err != nil {
			t.Fatalf("setpriority: %v", err)
		}
	}
	set(comm, nice)
	defer set(oldComm, defaultNice)
	return view()
}

// A procStat holds the fields of /proc/PID/stat from the third one on. The second field is the comm
// in parentheses, and may itself contain spaces and parentheses.
type procStat []string

func (s procStat) field(number int) string {
	return s[number-statStateField]
}

func readStat(t *testing.T, path string) procStat {
	t.Helper()
	text := readFile(t, path)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= statStartTimeField-statStateField {
		t.Fatalf("%s: %q", path, text)
	}
	return fields
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
