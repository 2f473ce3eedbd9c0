// SPDX-License-Identifier: Apache-2.0

//go:build integration

package programs

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// eventTimeout is how long a test waits for an event that should come within milliseconds. It is
// long, since an emulated machine on a busy host can be slow: it only ends tests that would never
// end.
const eventTimeout = 10 * time.Second

// Roles of this executable when a test starts it as a child process, in place of running the tests.
const (
	childVariable = "BPFMATRIX_TEST_CHILD"
	childExits    = "exit" // with the status that is its argument
	childSpins    = "spin" // runs a busy loop until its standard input ends
	childWaits    = "wait" // sleeps until its standard input ends
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(childVariable); role {
	case "":
		// Most of the memory is the kernel's BTF, which is needed to the end. In an emulated
		// machine, garbage collections would take longer than the tests. The limit is for a faulty
		// test; all tests together need less than 40 MB.
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(128 << 20)
		os.Exit(m.Run())
	case childExits:
		status, err := strconv.Atoi(os.Args[1])
		if err != nil {
			panic(err)
		}
		os.Exit(status)
	case childSpins:
		go callSpin(make(chan struct{}))
		fallthrough
	case childWaits:
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			panic(err)
		}
	default:
		panic("unknown role " + role)
	}
}

// childCommand returns a command that is not started yet: this executable in a role. If the process
// still runs when the test ends, it is killed.
func childCommand(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), executable, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s", childVariable, role))
	cmd.Stderr = os.Stderr
	return cmd
}

// startChild starts a child that runs until its standard input ends, which is when the test ends.
func startChild(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait() // the error does not matter: the tests check what the kernel reports
	})
}

// attachRawTracepoint attaches a program to a raw tracepoint until the test ends.
func attachRawTracepoint(t *testing.T, tracepoint string, program *ebpf.Program) {
	t.Helper()
	attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{
		Name: tracepoint, Program: program,
	})
	if err != nil {
		t.Fatalf("attach to %s: %v", tracepoint, err)
	}
	t.Cleanup(func() { attached.Close() })
}

// commOf returns the comm of a task that executes path.
func commOf(path string) string {
	base := filepath.Base(path)
	return base[:min(len(base), commLen-1)]
}

const commLen = 16 // TASK_COMM_LEN

// A comm is a task's name, padded with NULs.
type comm [commLen]byte

func (c comm) String() string {
	for i, b := range c {
		if b == 0 {
			return string(c[:i])
		}
	}
	return string(c[:])
}
