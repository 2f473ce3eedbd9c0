package execs

import (
	"os"
	"os/exec"
	"testing"
)

func TestCounter(t *testing.T) {
	counter, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer counter.Close()

	// The shell starts true in its place, so that one process starts two programs.
	command := exec.Command("/bin/sh", "-c", "exec /bin/true")
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
	for pid, want := range map[int]uint64{command.Process.Pid: 2, os.Getpid(): 0} {
		if got, err := counter.Count(pid); err != nil || got != want {
			t.Errorf("process %d started %d programs (%v), want %d", pid, got, err, want)
		}
	}
}
