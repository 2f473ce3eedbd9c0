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

// A workerProcess is a copy of this program that loads programs on request (see worker.go).
type workerProcess struct {
	command        *exec.Cmd
	requests       *json.Encoder
	stdin          io.Closer
	replies        chan reply // closed when the process has died
	stderr         *headBuffer
	exited         chan error
	oomKillsBefore uint64 // processes that the kernel had killed for want of memory by then
}

// A termination is how a worker process ended during a call.
type termination struct {
	outcome, code, reason string
	seconds               float64
}

func startWorker(s *settings) (*workerProcess, error) {
	replies, repliesOfWorker, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer repliesOfWorker.Close()
	p := &workerProcess{
		command: exec.Command("/proc/self/exe", workerArgument), replies: make(chan reply),
		stderr: &headBuffer{}, exited: make(chan error, 1), oomKillsBefore: oomKills(),
	}
	// Go preempts threads with signals. The verifier would stop at each of them with EAGAIN, and
	// the library would start it again.
	p.command.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOTRACEBACK=single")
	p.command.ExtraFiles = []*os.File{repliesOfWorker}
	p.command.Stderr = p.stderr
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := p.command.StdinPipe()
	if err != nil {
		replies.Close()
		return nil, err
	}
	p.stdin, p.requests = stdin, json.NewEncoder(stdin)
	if err := p.command.Start(); err != nil {
		replies.Close()
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	// If memory runs out, the kernel should kill a worker, and not this process, which reports it.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.command.Process.Pid), []byte("1000"), 0)
	go p.readReplies(replies)
	go func() { p.exited <- p.command.Wait() }()
	if err := p.requests.Encode(s); err != nil {
		return nil, fmt.Errorf("start a worker: %w: %s", err, p.stderr.firstLine())
	}
	return p, nil
}

func (p *workerProcess) readReplies(from io.ReadCloser) {
	defer from.Close()
	defer close(p.replies)
	decoder := json.NewDecoder(from)
	for {
		var r reply
		if decoder.Decode(&r) != nil {
			return
		}
		p.replies <- r
	}
}

// call sends a request and passes each reply to handle, until the request is done. It returns a
// termination if the process died, or was killed because it took longer than limit, and nil
// otherwise. The error is a usage error that the worker found.
func (p *workerProcess) call(
	what request, limit time.Duration, handle func(reply),
) (*termination, error) {
	started := time.Now()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	if err := p.requests.Encode(what); err != nil {
		return p.diagnose(started), nil
	}
	for {
		select {
		case r, ok := <-p.replies:
			switch {
			case !ok:
				return p.diagnose(started), nil
			case r.Usage != "":
				return nil, usageError(r.Usage)
			case r.Done:
				return nil, nil
			}
			handle(r)
		case <-timer.C:
			// A thread within the verifier dies only when the verifier next checks for signals.
			// There is no need to wait for that.
			_ = p.command.Process.Kill()
			go drain(p.replies)
			return &termination{
				timeout, codeTimeout,
				fmt.Sprintf("it took longer than %v", limit), time.Since(started).Seconds(),
			}, nil
		}
	}
}

func drain(replies <-chan reply) {
	for range replies {
	}
}

// exitLimit is how long a worker may take to exit after it closed its end of the replies.
const exitLimit = 10 * time.Second

// diagnose says why a worker that closed its end of the replies has died.
func (p *workerProcess) diagnose(started time.Time) *termination {
	t := &termination{broken, codeLoaderCrashed, "", time.Since(started).Seconds()}
	select {
	case err := <-p.exited:
		t.reason = "the loader ended"
		if err != nil {
			t.reason = "the loader died: " + err.Error()
		}
	case <-time.After(exitLimit):
		_ = p.command.Process.Kill()
		t.reason = "the loader stopped answering"
	}
	if line := p.stderr.firstLine(); line != "" {
		t.reason += ": " + line
	}
	if state := p.command.ProcessState; state != nil {
		status, _ := state.Sys().(syscall.WaitStatus)
		killed := status.Signaled() && status.Signal() == syscall.SIGKILL
		if killed && oomKills() > p.oomKillsBefore || strings.Contains(t.reason, "out of memory") ||
			strings.Contains(t.reason, "cannot allocate memory") {
			t.outcome, t.code = failed, codeNoMemory
			t.reason = "the guest has too little memory for it: raise qemu.memory in kernels.yaml"
		}
	}
	return t
}

// oomKills returns how many processes the kernel has killed for want of memory since it booted.
func oomKills() uint64 {
	data, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(data, []byte("\noom_kill "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if count := parseNumber(string(line)); count != nil {
		return *count
	}
	return 0
}

func (p *workerProcess) kill() {
	p.stdin.Close()
	_ = p.command.Process.Kill()
}

// A headBuffer keeps the first headBytes bytes that are written to it.
type headBuffer struct {
	lock sync.Mutex
	data []byte
}

const headBytes = 4096

func (b *headBuffer) Write(data []byte) (int, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	if room := headBytes - len(b.data); room > 0 {
		b.data = append(b.data, data[:min(room, len(data))]...)
	}
	return len(data), nil
}

func (b *headBuffer) firstLine() string {
	b.lock.Lock()
	defer b.lock.Unlock()
	line, _, _ := strings.Cut(strings.TrimSpace(string(b.data)), "\n")
	return line
}
