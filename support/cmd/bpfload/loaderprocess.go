// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

// A loaderProcess is a loader that answers requests (docs/loaders.md).
type loaderProcess struct {
	name, version  string // as it calls itself
	command        *exec.Cmd
	requests       *json.Encoder
	stdin          io.Closer
	replies        chan *reply // closed when no more can be read
	unreadable     string      // why they can't be read, if not because the process died
	output         *headBuffer
	exited         chan error
	oomKillsBefore uint64 // processes that the kernel had killed for want of memory by then
}

// A termination is how a loader ended during a call.
type termination struct {
	outcome, code, reason string
	seconds               float64
}

// startLoader starts a loader and sends it the first request. It returns a termination if the
// loader dies of that or gives no answer, and an error if it can't be executed.
func startLoader(s *settings) (*loaderProcess, *termination, error) {
	replies, repliesOfLoader, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	p := &loaderProcess{
		command: exec.Command(s.Loader), replies: make(chan *reply), output: &headBuffer{},
		exited: make(chan error, 1), oomKillsBefore: oomKills(),
	}
	p.command.ExtraFiles = []*os.File{repliesOfLoader} // the first is RepliesDescriptor
	p.command.Stdout, p.command.Stderr = p.output, p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := p.command.StdinPipe()
	if err == nil {
		p.stdin, p.requests = stdin, json.NewEncoder(stdin)
		err = p.command.Start()
	}
	repliesOfLoader.Close() // of the loader's own, the end is seen only when no other one is open
	if err != nil {
		replies.Close()
		return nil, nil, fmt.Errorf("the loader can't be started: %w", err)
	}
	// If memory runs out, the kernel should kill a loader, and not this process, which reports it.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.command.Process.Pid), []byte("1000"), 0)
	go p.readReplies(replies)
	go func() { p.exited <- p.command.Wait() }()
	start := protocol.Request{Request: protocol.Start, Objects: s.Targets}
	died, err := p.call(start, s.openLimit(), func(r *reply) {
		if r.Loader != "" {
			p.name, p.version = r.Loader, r.Version
		}
	})
	if died == nil && err == nil && p.name == "" {
		died = p.discard("the loader did not say its name")
	}
	return p, died, err
}

func (p *loaderProcess) readReplies(from io.ReadCloser) {
	defer from.Close()
	defer close(p.replies)
	reader := newReplyReader(from)
	for {
		r, err := reader.next()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				p.unreadable = err.Error()
			}
			return
		}
		p.replies <- r
	}
}

// call sends a request and passes each reply to handle, until the request is done. It returns a
// termination if the process died, or was killed because it took longer than limit or does not keep
// to the protocol. The error is a usage error that the loader found.
func (p *loaderProcess) call(
	what protocol.Request, limit time.Duration, handle func(*reply),
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
			}
			handle(r)
			if r.Done {
				return nil, nil
			}
		case <-timer.C:
			p.end()
			return &termination{
				timeout, codeTimeout,
				fmt.Sprintf("it took longer than %v", limit), time.Since(started).Seconds(),
			}, nil
		}
	}
}

// discard ends a loader that did not keep to the protocol.
func (p *loaderProcess) discard(reason string) *termination {
	p.end()
	return &termination{broken, codeLoaderCrashed, reason, 0}
}

// end kills the loader. A thread within the verifier dies only when the verifier next checks for
// signals; there is no need to wait for that.
func (p *loaderProcess) end() {
	_ = p.command.Process.Kill()
	go func() {
		for range p.replies {
		}
	}()
}

// exitLimit is how long a loader may take to exit after it closed its end of the replies.
const exitLimit = 10 * time.Second

// diagnose says why there are no more replies of a loader.
func (p *loaderProcess) diagnose(started time.Time) *termination {
	t := &termination{broken, codeLoaderCrashed, "", time.Since(started).Seconds()}
	if p.unreadable != "" {
		p.end()
		t.reason = "the loader's answer is not JSON as docs/loaders.md has it: " + p.unreadable
		return t
	}
	select {
	case err := <-p.exited:
		t.reason = "the loader ended"
		if err != nil {
			t.reason = "the loader died: " + err.Error()
		}
	case <-time.After(exitLimit):
		p.end()
		t.reason = "the loader stopped answering"
	}
	if said := p.output.firstLines(); said != "" {
		t.reason += ": " + said
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
	count, _ := strconv.ParseUint(string(line), 10, 64)
	return count
}

// kill ends a loader that is not needed any more. When it is gone, its maps are.
func (p *loaderProcess) kill() {
	p.stdin.Close()
	p.end()
	select {
	case <-p.exited:
	case <-time.After(exitLimit):
	}
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

// maxLines is how many lines of a loader's output are in a reason: what follows is a stack trace.
const maxLines = 3

// firstLines returns the first lines of the output up to an empty one, as one line.
func (b *headBuffer) firstLines() string {
	b.lock.Lock()
	defer b.lock.Unlock()
	paragraph, _, _ := strings.Cut(strings.TrimSpace(string(b.data)), "\n\n")
	lines := strings.Split(paragraph, "\n")
	return strings.Join(strings.Fields(strings.Join(lines[:min(len(lines), maxLines)], " ")), " ")
}
