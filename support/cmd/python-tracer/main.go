// SPDX-License-Identifier: Apache-2.0

// Command python-tracer runs a script with the payload's Python, and samples its stacks.
//
//	python-tracer [-every 5ms] SCRIPT [ARGUMENT...]
//
// It prints one JSON object in each line: {"output": TEXT} for what the script prints, as it comes;
// then, when the script ended or a signal says so, each different stack once, as support/pylines
// reads it, with its "count"; and at last {"summary": {...}}. It exits with the script's status.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/bpfmatrix/bpfmatrix/support/internal/bpftest"
	"github.com/bpfmatrix/bpfmatrix/support/internal/guestpython"
	"github.com/bpfmatrix/bpfmatrix/support/internal/pytrace"
)

// startLimit is how long a Python may take until its interpreter is mapped.
const startLimit = 10 * time.Second

// printer writes lines, also those of goroutines.
type printer struct {
	mutex sync.Mutex
	lines *json.Encoder
}

func (p *printer) print(line any) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if err := p.lines.Encode(line); err != nil {
		panic(err)
	}
}

// Write is for what the script prints.
func (p *printer) Write(text []byte) (int, error) {
	p.print(map[string]string{"output": string(text)})
	return len(text), nil
}

// summary is the last line.
type summary struct {
	Python   string           `json:"python"`
	Status   int              `json:"status"`
	Ended    string           `json:"ended,omitempty"` // the signal that ended it early
	Counters pytrace.Counters `json:"counters"`
}

func main() {
	every := flag.Duration("every", 5*time.Millisecond, "the time between two samples of a CPU")
	flag.Parse()
	out := bufio.NewWriter(os.Stdout)
	lines := &printer{lines: json.NewEncoder(out)}
	status, err := run(lines, out, *every, flag.Args())
	out.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "python-tracer:", err)
		os.Exit(1)
	}
	os.Exit(status)
}

func run(lines *printer, out *bufio.Writer, every time.Duration, words []string) (int, error) {
	// The tool ends what takes too long with SIGQUIT, two seconds before SIGKILL.
	ctx, stop := signal.NotifyContext(
		context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	defer stop()
	collection, err := load()
	if err != nil {
		return 0, err
	}
	defer collection.Close()
	tracer, err := pytrace.New(collection, every)
	if err != nil {
		return 0, err
	}
	defer tracer.Close()

	script, err := guestpython.Command(ctx, words...)
	if err != nil {
		return 0, err
	}
	script.Stdout, script.Stderr = lines, lines // the same one: os/exec writes to it in turn
	if err := script.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- script.Wait() }()
	interpreter, err := awaitInterpreter(script.Process.Pid, ended)
	if err != nil {
		script.Process.Kill()
		return 0, err
	}
	stacks := newStacks()
	var reading sync.WaitGroup
	if interpreter != nil {
		if err := tracer.Add(script.Process.Pid, interpreter); err != nil {
			return 0, err
		}
		reading.Go(func() { err = stacks.collect(tracer) })
	}
	failure := <-ended
	if pauseErr := tracer.Pause(); pauseErr != nil {
		return 0, pauseErr
	}
	if err := tracer.Flush(); err != nil {
		return 0, err
	}
	reading.Wait()
	if err != nil {
		return 0, err
	}
	for _, stack := range stacks.counted() {
		lines.print(stack)
	}
	told := summary{Status: script.ProcessState.ExitCode()}
	if interpreter != nil {
		told.Python = interpreter.Version
	}
	var exit *exec.ExitError
	if failure != nil && !errors.As(failure, &exit) && ctx.Err() == nil {
		return 0, failure
	}
	if wait, ok := script.ProcessState.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
		told.Ended, told.Status = wait.Signal().String(), 128+int(wait.Signal())
	}
	if told.Counters, err = tracer.Counters(); err != nil {
		return 0, err
	}
	lines.print(map[string]summary{"summary": told})
	return told.Status, out.Flush()
}

func load() (*ebpf.Collection, error) {
	path, err := bpftest.ObjectPath("python_tracer")
	if err != nil {
		return nil, err
	}
	if reason, err := bpftest.Unmet(path); err != nil {
		return nil, err
	} else if reason != "" {
		return nil, errors.New(reason)
	}
	// Kernels before 5.11 charge maps and programs to the limit of locked memory.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, err
	}
	return ebpf.LoadCollection(path)
}

// awaitInterpreter waits for a process to map its interpreter; nil if it ended before.
func awaitInterpreter(pid int, ended chan error) (*pytrace.Interpreter, error) {
	for deadline := time.Now().Add(startLimit); ; time.Sleep(time.Millisecond) {
		interpreter, err := pytrace.Inspect(pid)
		if err == nil {
			return interpreter, nil
		}
		select {
		case failure := <-ended:
			ended <- failure
			return nil, nil
		default:
		}
		if errors.Is(err, pytrace.ErrUnsupported) || time.Now().After(deadline) {
			return nil, err
		}
	}
}

// countedStack is a sample without what tells one moment from another.
type countedStack struct {
	Frames    []pytrace.Frame `json:"frames"`
	Count     int             `json:"count"`
	Comm      string          `json:"comm"`
	TID       uint32          `json:"tid"`
	Truncated string          `json:"truncated,omitempty"`
}

// stacks are the different ones that were seen, in the order of their first samples.
type stacks struct {
	places map[string]int
	found  []countedStack
}

func newStacks() *stacks { return &stacks{places: map[string]int{}} }

// collect reads samples until there are no more.
func (s *stacks) collect(tracer *pytrace.Tracer) error {
	for {
		sample, err := tracer.Next()
		if errors.Is(err, ringbuf.ErrFlushed) {
			return nil
		} else if err != nil {
			return err
		}
		if len(sample.Frames) == 0 {
			continue // code of C alone
		}
		var key strings.Builder
		fmt.Fprint(&key, sample.TID, sample.Truncated, sample.Frames)
		place, known := s.places[key.String()]
		if !known {
			place = len(s.found)
			s.places[key.String()] = place
			s.found = append(s.found, countedStack{
				Frames: sample.Frames, Comm: sample.Comm, TID: sample.TID, Truncated: sample.Truncated,
			})
		}
		s.found[place].Count++
	}
}

func (s *stacks) counted() []countedStack { return s.found }
