// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A child is a copy of this program that does what it is told (worker.go).
type child struct {
	command  *exec.Cmd
	orders   *json.Encoder
	input    io.Closer
	messages chan message // closed when it died
	said     *tailBuffer
	ended    chan error
	kills    uint64 // by the kernel, for want of memory, before it was started
}

// fate is what became of a child while it did something.
type fate struct {
	died                  bool
	outcome, code, reason string
	seconds               float64
}

func startChild(s *settings) (*child, error) {
	replies, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c := &child{
		command: exec.Command("/proc/self/exe", workerWord), messages: make(chan message),
		said: &tailBuffer{}, ended: make(chan error, 1), kills: memoryKills(),
	}
	// The signals by which Go preempts threads would have the verifier begin again (EAGAIN).
	c.command.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOTRACEBACK=single")
	c.command.ExtraFiles = []*os.File{theirs}
	c.command.Stderr = c.said
	c.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	input, err := c.command.StdinPipe()
	if err != nil {
		replies.Close()
		return nil, err
	}
	c.input, c.orders = input, json.NewEncoder(input)
	if err := c.command.Start(); err != nil {
		replies.Close()
		return nil, fmt.Errorf("start a child: %w", err)
	}
	// Where memory runs out, the kernel is to end a child, not the one who tells of it.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", c.command.Process.Pid), []byte("1000"), 0)
	go func() {
		defer replies.Close()
		decoder := json.NewDecoder(replies)
		for {
			var m message
			if decoder.Decode(&m) != nil {
				close(c.messages)
				return
			}
			c.messages <- m
		}
	}()
	go func() { c.ended <- c.command.Wait() }()
	if err := c.orders.Encode(s); err != nil {
		return nil, fmt.Errorf("start a child: %w: %s", err, c.said)
	}
	return c, nil
}

// ask has the child do something, and gives each of its messages to handle, until it is done, died, or
// was ended because it took longer than the limit. A usage error that it found is the error.
func (c *child) ask(what order, limit time.Duration, handle func(message)) (fate, error) {
	started := time.Now()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	if err := c.orders.Encode(what); err != nil {
		return c.autopsy(started), nil
	}
	for {
		select {
		case m, ok := <-c.messages:
			switch {
			case !ok:
				return c.autopsy(started), nil
			case m.Usage != "":
				return fate{}, usageError(m.Usage)
			case m.Done:
				return fate{}, nil
			}
			handle(m)
		case <-timer.C:
			// A thread in the verifier ends when that next looks for signals. Nobody waits for it.
			_ = c.command.Process.Kill()
			go drain(c.messages)
			return fate{
				true, timeout, codeTimeout,
				fmt.Sprintf("it took longer than %v", limit), time.Since(started).Seconds(),
			}, nil
		}
	}
}

func drain(messages <-chan message) {
	for range messages {
	}
}

// autopsy says what a child died of.
func (c *child) autopsy(started time.Time) fate {
	f := fate{true, broken, codeLoaderCrashed, "", time.Since(started).Seconds()}
	select {
	case err := <-c.ended:
		f.reason = "the loader ended"
		if err != nil {
			f.reason = "the loader died: " + err.Error()
		}
	case <-time.After(10 * time.Second):
		_ = c.command.Process.Kill()
		f.reason = "the loader fell silent"
	}
	if words := c.said.firstLine(); words != "" {
		f.reason += ": " + words
	}
	if state := c.command.ProcessState; state != nil {
		status, _ := state.Sys().(syscall.WaitStatus)
		outOfMemory := status.Signaled() && status.Signal() == syscall.SIGKILL && memoryKills() > c.kills
		if outOfMemory || strings.Contains(f.reason, "out of memory") ||
			strings.Contains(f.reason, "cannot allocate memory") {
			f.outcome, f.code = failed, codeNoMemory
			f.reason = "the guest's memory was too small for it (qemu.memory of kernels.yaml)"
		}
	}
	return f
}

// memoryKills returns how many processes the kernel ended for want of memory.
func memoryKills() uint64 {
	data, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(data, []byte("\noom_kill "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if count := number(string(line)); count != nil {
		return *count
	}
	return 0
}

// end lets the child go.
func (c *child) end() {
	c.input.Close()
	_ = c.command.Process.Kill()
}

// A tailBuffer keeps the begin of what is written to it.
type tailBuffer struct {
	lock sync.Mutex
	data []byte
}

const keptBytes = 4096

func (b *tailBuffer) Write(data []byte) (int, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	if room := keptBytes - len(b.data); room > 0 {
		b.data = append(b.data, data[:min(room, len(data))]...)
	}
	return len(data), nil
}

func (b *tailBuffer) firstLine() string {
	b.lock.Lock()
	defer b.lock.Unlock()
	line, _, _ := strings.Cut(strings.TrimSpace(string(b.data)), "\n")
	return line
}

func (b *tailBuffer) String() string { return b.firstLine() }
