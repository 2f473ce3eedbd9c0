// SPDX-License-Identifier: Apache-2.0

// Command python-tracer runs a script with the payload's Python, and samples its stacks.
//
//	python-tracer [-every 5ms] [-limit 1m] [-modules DIR] [--] ARGUMENT...
//
// The arguments are those of Python: flags, and a script or -m MODULE, with its arguments. DIR is a
// folder in which modules are found, before those of the payload's Python. The processes that the
// script starts are sampled, too. A script that runs for longer than the limit is killed, with the
// processes of its process group.
//
// It prints JSON objects, one per line. While the script runs, {"output": TEXT} has what the script
// prints. When the script has ended, or was ended by a signal, its stacks follow:
//
//	{"code": {"number": 1, "identity": "12:1:0:3:9ae16a3b2f90404f", "file": "/payload/script/a.py",
//	          "function": "Class.method", "table": "8000f003"}}
//	{"part": {"number": 1, "frames": [[1, 36], [2, 8]]}}
//	{"stack": {"parts": [1, 2], "count": 7, "pid": 80, "tid": 81, "comm": "python3",
//	           "process": "a.py", "truncated": "too deep"}}
//
// A code object has its identity as bytecode-lines defines it, and what the process itself says: its
// co_filename, its name (co_qualname, before 3.11 co_name), and its line table in hexadecimal digits.
// Each of these three is missing if it could not be read. A part is some frames that follow each
// other, the innermost first. A frame is the number of its code object, and the offset of its last
// instruction in bytes. A stack is a list of parts, the innermost first, and how many samples have
// it; "truncated" says why outer frames are missing, if any are. A number is defined in a line above
// the one that uses it.
//
// "process" is a name for people: of the script or the module that the process runs, or of the
// process that it was forked from, with a number if several have this name.
//
// The samples of which only the innermost frame is known follow, by the process and by that frame, the
// most frequent first:
//
//	{"lost": {"pid": 80, "process": "a.py", "code": 1, "offset": 36, "count": 3}}
//
// The last line is {"summary": {...}}. Its list "processes" has all processes, in the order in which
// they started: those of Python with the version of CPython. A process without it was not sampled,
// because it is of another program, or for the reason that "refusal" says:
//
//	{"pid": 80, "name": "a.py", "python": "3.11"}
//	{"pid": 82, "parent": 80, "name": "sort"}
//
// Its counter "lost" also has the samples of which nothing is known, so it may be more than the sum of
// the lines "lost".
//
// The exit status is that of the script.
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
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
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
	Ended    string           `json:"ended,omitempty"`     // the signal that ended the script
	TimedOut bool             `json:"timed_out,omitempty"` // killed after -limit
	Counters pytrace.Counters `json:"counters"`

	Processes []*pytrace.Process `json:"processes"`
}

func main() {
	interval := flag.Duration("every", 5*time.Millisecond, "the time between two samples of a CPU")
	limit := flag.Duration("limit", 0, "how long the script may run; 0 for as long as it likes")
	modules := flag.String("modules", "", "a folder with modules")
	flag.Parse()
	out := bufio.NewWriter(os.Stdout)
	lines := &printer{lines: json.NewEncoder(out)}
	status, err := run(lines, out, *interval, *limit, *modules, flag.Args())
	out.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "python-tracer:", err)
		os.Exit(1)
	}
	os.Exit(status)
}

func run(
	lines *printer, out *bufio.Writer, interval, limit time.Duration, modules string, args []string,
) (int, error) {
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
	// From here on: the kernel verified the tracer's programs for seconds.
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	script, err := guestpython.Command(ctx, args...)
	if err != nil {
		return 0, err
	}
	// Children that have the script's output would keep it open.
	script.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	script.Cancel = func() error { return syscall.Kill(-script.Process.Pid, syscall.SIGKILL) }
	guestpython.AddModules(script, modules)
	script.Stdout, script.Stderr = lines, lines // equal: os/exec writes to it in turn
	if err := script.Start(); err != nil {
		return 0, err
	}
	result, sampled, err := sample(ctx, script, tracer)
	printer := newStackPrinter(lines)
	printer.print(sampled.counted)
	if err != nil {
		return 0, err
	}
	lost, err := tracer.Lost()
	if err != nil {
		return 0, err
	}
	printer.printLost(lost, sampled.process)
	lines.print(map[string]summary{"summary": result})
	return result.Status, out.Flush()
}

// sample samples the stacks of a running script until it ends. It returns those that it has, whatever
// the error is.
func sample(
	ctx context.Context, script *exec.Cmd, tracer *pytrace.Tracer,
) (result summary, counter *stackCounter, err error) {
	counter = newStackCounter()
	ended := make(chan error, 1)
	go func() { ended <- script.Wait() }()
	interpreter, err := awaitInterpreter(script.Process.Pid, ended)
	if err != nil {
		script.Process.Kill()
		return result, counter, err
	}
	var reading sync.WaitGroup
	var readErr error
	if interpreter != nil {
		family, err := tracer.Follow(script.Process.Pid, interpreter)
		if err != nil {
			return result, counter, err
		}
		counter.process = family.Process
		defer func() { result.Processes = family.End() }()
		result.Python = interpreter.Version
		reading.Go(func() { readErr = counter.collect(tracer) })
	}
	waitErr := <-ended
	if err := tracer.Pause(); err != nil {
		return result, counter, err
	}
	if err := tracer.Flush(); err != nil {
		return result, counter, err
	}
	if reading.Wait(); readErr != nil {
		return result, counter, readErr
	}
	var exit *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &exit) && ctx.Err() == nil {
		return result, counter, waitErr
	}
	result.TimedOut = waitErr != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
	result.Status = script.ProcessState.ExitCode()
	if wait, ok := script.ProcessState.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
		result.Ended, result.Status = wait.Signal().String(), 128+int(wait.Signal())
	}
	result.Counters, err = tracer.Counters()
	return result, counter, err
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
