// SPDX-License-Identifier: Apache-2.0

// Command python-tracer runs a script with the payload's Python, and samples its stacks.
//
//	python-tracer [-every 5ms] SCRIPT [ARGUMENT...]
//
// It prints JSON objects, one per line. While the script runs, {"output": TEXT} has what the script
// prints. When the script has ended, or was ended by a signal, each distinct stack follows, in the
// form that bytecode-lines reads and with its "count". The last line is {"summary": {...}}. The
// exit status is that of the script.
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

// startLimit is how long a Python process may take to map its interpreter.
const startLimit = 10 * time.Second

// A printer writes values as lines of JSON, for several goroutines.
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

// Write takes what the script prints.
func (p *printer) Write(text []byte) (int, error) {
	p.print(map[string]string{"output": string(text)})
	return len(text), nil
}

// summary is the last line.
type summary struct {
	Python   string           `json:"python"`
	Status   int              `json:"status"`
	Ended    string           `json:"ended,omitempty"` // the signal that ended the script
	Counters pytrace.Counters `json:"counters"`
}

func main() {
	interval := flag.Duration("every", 5*time.Millisecond, "the time between two samples of a CPU")
	flag.Parse()
	out := bufio.NewWriter(os.Stdout)
	lines := &printer{lines: json.NewEncoder(out)}
	status, err := run(lines, out, *interval, flag.Args())
	out.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "python-tracer:", err)
		os.Exit(1)
	}
	os.Exit(status)
}

func run(lines *printer, out *bufio.Writer, interval time.Duration, args []string) (int, error) {
	// bpfmatrix ends what takes too long with SIGQUIT, two seconds before SIGKILL.
	ctx, stop := signal.NotifyContext(
		context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	defer stop()
	collection, err := load()
	if err != nil {
		return 0, err
	}
	defer collection.Close()
	tracer, err := pytrace.New(collection, interval)
	if err != nil {
		return 0, err
	}
	defer tracer.Close()
	script, err := guestpython.Command(ctx, args...)
	if err != nil {
		return 0, err
	}
	script.Stdout, script.Stderr = lines, lines // equal: os/exec writes to it in turn
	if err := script.Start(); err != nil {
		return 0, err
	}
	result, stacks, err := sample(ctx, script, tracer)
	for _, stack := range stacks {
		lines.print(stack)
	}
	if err != nil {
		return 0, err
	}
	lines.print(map[string]summary{"summary": result})
	return result.Status, out.Flush()
}

// sample samples the stacks of a running script until it ends. If an error happens after that, it
// returns the stacks, too.
func sample(
	ctx context.Context, script *exec.Cmd, tracer *pytrace.Tracer,
) (result summary, stacks []countedStack, err error) {
	ended := make(chan error, 1)
	go func() { ended <- script.Wait() }()
	interpreter, err := awaitInterpreter(script.Process.Pid, ended)
	if err != nil {
		script.Process.Kill()
		return result, nil, err
	}
	counter := newStackCounter()
	var reading sync.WaitGroup
	var readErr error
	if interpreter != nil {
		if err := tracer.Add(script.Process.Pid, interpreter); err != nil {
			return result, nil, err
		}
		result.Python = interpreter.Version
		reading.Go(func() { readErr = counter.collect(tracer) })
	}
	waitErr := <-ended
	if err := tracer.Pause(); err != nil {
		return result, nil, err
	}
	if err := tracer.Flush(); err != nil {
		return result, nil, err
	}
	if reading.Wait(); readErr != nil {
		return result, nil, readErr
	}
	var exit *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &exit) && ctx.Err() == nil {
		return result, counter.counted, waitErr
	}
	result.Status = script.ProcessState.ExitCode()
	if wait, ok := script.ProcessState.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
		result.Ended, result.Status = wait.Signal().String(), 128+int(wait.Signal())
	}
	result.Counters, err = tracer.Counters()
	return result, counter.counted, err
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

// awaitInterpreter waits until a process has mapped its interpreter. It returns nil if the process
// ended before that.
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

// countedStack is a stack, without what differs between its samples.
type countedStack struct {
	Frames    []pytrace.Frame `json:"frames"`
	Count     int             `json:"count"`
	Comm      string          `json:"comm"`
	TID       uint32          `json:"tid"`
	Truncated string          `json:"truncated,omitempty"`
}

// A stackCounter counts how often each distinct stack was sampled. The stacks are in the order of
// their first samples.
type stackCounter struct {
	indices map[string]int
	counted []countedStack
}

func newStackCounter() *stackCounter { return &stackCounter{indices: map[string]int{}} }

// collect reads samples until the tracer is flushed.
func (s *stackCounter) collect(tracer *pytrace.Tracer) error {
	for {
		sample, err := tracer.Next()
		if errors.Is(err, ringbuf.ErrFlushed) {
			return nil
		} else if err != nil {
			return err
		}
		if len(sample.Frames) == 0 {
			continue // the thread ran no Python code
		}
		var key strings.Builder
		fmt.Fprint(&key, sample.TID, sample.Truncated, sample.Frames)
		index, seen := s.indices[key.String()]
		if !seen {
			index = len(s.counted)
			s.indices[key.String()] = index
			s.counted = append(s.counted, countedStack{
				Frames: sample.Frames, Comm: sample.Comm, TID: sample.TID, Truncated: sample.Truncated,
			})
		}
		s.counted[index].Count++
	}
}
