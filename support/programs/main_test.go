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
)

// patience is how long a test waits for what should come within milliseconds. It is there to end tests
// that would never end, not to measure: an emulated machine on a busy host can be slow.
const patience = 10 * time.Second

// What this executable does in place of the tests, when a test starts it as a child.
const (
	childVariable = "BPFMATRIX_TEST_CHILD"
	childExits    = "exit" // with the status that its argument says
	childSpins    = "spin" // until its standard input ends
	childWaits    = "wait" // until its standard input ends
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(childVariable); role {
	case "":
		// Most of what is allocated is the kernel's BTF, once, and is needed to the end: collecting
		// garbage meanwhile takes an emulated machine longer than the tests do. The limit is for a test
		// that goes wrong; all of them together need less than 40 MB.
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

// child returns this executable, about to be started in a role. A child that is still there when the
// test ends is killed.
func child(t *testing.T, role string, args ...string) *exec.Cmd {
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

// start starts a child that lives until its standard input ends, and ends it when the test does.
func start(t *testing.T, cmd *exec.Cmd) {
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
		cmd.Wait() // killed or not: the tests check what the kernel says of it
	})
}

// commOf returns the comm that executing path gives to a task.
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
