// SPDX-License-Identifier: Apache-2.0

//go:build integration

package programs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/bpfmatrix/bpfmatrix/support/internal/bpftest"
	"github.com/bpfmatrix/bpfmatrix/support/internal/guestpython"
	"github.com/bpfmatrix/bpfmatrix/support/internal/pytrace"
)

const (
	scriptFolder    = "/payload/testdata"
	scriptName      = "busy_threads.py"
	recursionDepth  = 2000
	maxPythonFrames = 64 * 128 // ROUND_FRAMES * MAX_ROUNDS
	idleThreads     = 300      // more than one sample looks at to find its thread
)

// A pythonFrame is what Python itself reports of a frame.
type pythonFrame struct {
	File        string `json:"file"`
	Name        string `json:"name"`
	Qualified   bool   `json:"qualified"` // whether the name is; it is from 3.11 on
	Line        int    `json:"line"`
	FirstLine   uint32 `json:"first_line"`
	Arguments   uint32 `json:"arguments"`
	KeywordOnly uint32 `json:"keyword_only"`
	Flags       uint32 `json:"flags"`
	Table       string `json:"table"`
	Offset      int32  `json:"offset"`
	Times       int    `json:"times"` // how many equal frames follow each other
}

type pythonThread struct {
	Thread string        `json:"thread"`
	TID    uint32        `json:"tid"`
	Frames []pythonFrame `json:"frames"`
}

// A tracedFrame is what the tracer reports of a frame, and can be compared.
type tracedFrame struct {
	Identity          pytrace.Identity
	File, Name, Table string // the table in hexadecimal digits
	Offset            int32
}

// traced returns what the tracer should report.
func (f pythonFrame) traced(t *testing.T) tracedFrame {
	t.Helper()
	table, err := hex.DecodeString(f.Table)
	if err != nil {
		t.Fatal(err)
	}
	identity := pytrace.Identity{
		FirstLine: f.FirstLine, Arguments: f.Arguments, KeywordOnly: f.KeywordOnly, Flags: f.Flags,
		Hash: pytrace.TableHash(uint64(len(table)), table),
	}
	return tracedFrame{identity, f.File, f.Name, f.Table, f.Offset}
}

// tracedFrames returns what the tracer has reported.
func tracedFrames(sample *pytrace.Sample) (frames []tracedFrame) {
	for _, frame := range sample.Frames() {
		code := frame.Code
		frames = append(frames, tracedFrame{
			code.Identity, code.File, code.Name, hex.EncodeToString(code.Table), frame.Offset,
		})
	}
	return frames
}

// isNamed returns whether the frame's function has this qualified name.
func (f pythonFrame) isNamed(qualified string) bool {
	return qualified == f.Name || !f.Qualified && strings.HasSuffix(qualified, "."+f.Name)
}

func TestPythonTracer(t *testing.T) {
	script, err := guestpython.Command(
		t.Context(), "-S", filepath.Join(scriptFolder, scriptName),
		strconv.Itoa(recursionDepth), strconv.Itoa(maxPythonFrames), strconv.Itoa(idleThreads))
	if errors.Is(err, guestpython.ErrMissing) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	collection := bpftest.Load(t, "python_tracer")
	threads := startScript(t, script)
	interpreter, err := pytrace.Inspect(script.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("CPython %s", interpreter.Version)
	tracer := startTracer(t, collection, script.Process.Pid, interpreter)
	samples := awaitSamples(t, tracer, threads)
	// More samples would only slow down the rest of the test.
	if err := tracer.Pause(); err != nil {
		t.Fatal(err)
	}
	t.Run("lost_samples_are_counted_by_their_code", func(t *testing.T) {
		checkLosses(t, script.Process.Pid, interpreter)
	})
	script.Process.Kill()

	t.Run("nested_calls", func(t *testing.T) {
		checkFrames(t, samples["nested"], threads["nested"])
	})

	t.Run("deep_recursion", func(t *testing.T) {
		if count := len(samples["deep"].Frames()); count < recursionDepth {
			t.Errorf("%d frames of a recursion of %d", count, recursionDepth)
		}
		checkFrames(t, samples["deep"], threads["deep"])
	})

	t.Run("too_deep_is_said", func(t *testing.T) {
		checkTooDeep(t, samples["too deep"], threads["too deep"])
	})

	t.Run("lines_are_those_of_python", func(t *testing.T) {
		checkLines(t, samples, threads)
	})

	t.Run("every_sample_is_counted", func(t *testing.T) {
		counters, err := tracer.Counters()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", counters)
		// All busy threads run Python code all the time. Of those that wait, a sample is an accident.
		if counters.Seen == 0 || counters.TooDeep == 0 || counters.NoFrame+counters.Lost > 0 {
			t.Errorf("counters: %+v", counters)
		}
	})
}

// startTracer starts to sample a process, until the test ends.
func startTracer(
	t *testing.T, collection *ebpf.Collection, pid int, interpreter *pytrace.Interpreter,
) *pytrace.Tracer {
	t.Helper()
	tracer, err := pytrace.New(collection, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracer.Close)
	if err := tracer.Add(pid, interpreter); err != nil {
		t.Fatal(err)
	}
	return tracer
}

// startScript starts the script, and returns its threads by name. They run busy loops from then on.
func startScript(t *testing.T, cmd *exec.Cmd) map[string]pythonThread {
	t.Helper()
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	threads := map[string]pythonThread{}
	for lines := bufio.NewReader(stdout); len(threads) < 3; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("Python ended: %v", err)
		}
		var thread pythonThread
		if err := json.Unmarshal(line, &thread); err != nil {
			t.Fatalf("Python printed %.200q: %v", line, err)
		}
		var frames []pythonFrame
		for _, frame := range thread.Frames {
			frames = append(frames, slices.Repeat([]pythonFrame{frame}, frame.Times)...)
		}
		thread.Frames = frames
		threads[thread.Thread] = thread
	}
	return threads
}

// awaitSamples waits for a sample of each thread in its endless loop.
func awaitSamples(
	t *testing.T, tracer *pytrace.Tracer, threads map[string]pythonThread,
) map[string]*pytrace.Sample {
	t.Helper()
	found, seen := map[string]*pytrace.Sample{}, map[string]int{}
	tracer.SetDeadline(time.Now().Add(eventTimeout))
	for len(found) < len(threads) {
		sample, err := tracer.Next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			counters, _ := tracer.Counters()
			t.Fatalf("samples of %d of %d threads within %v: %+v",
				len(found), len(threads), eventTimeout, counters)
		} else if err != nil {
			t.Fatal(err)
		}
		for name, thread := range threads {
			// A thread that has just reported its frames still has to leave the functions for that.
			inner := thread.Frames[0].traced(t)
			if sample.TID != thread.TID || sample.Truncated == pytrace.Unreadable {
				continue // see "What can't be read" in docs/profiling-python.md
			}
			first := sample.Parts[0].Frames[0]
			if first.Code.Identity == inner.Identity && first.Offset > inner.Offset {
				// The first such sample may be of the instruction between the report and the loop.
				if seen[name]++; seen[name] > 1 {
					found[name] = sample
				}
			}
		}
	}
	return found
}

// checkLosses traces the script with a ring buffer that nobody reads until it is full.
func checkLosses(t *testing.T, pid int, interpreter *pytrace.Interpreter) {
	t.Helper()
	collection := bpftest.Load(t, "python_tracer", func(spec *ebpf.CollectionSpec) error {
		spec.Maps["records"].MaxEntries = uint32(max(1<<14, os.Getpagesize()))
		return nil
	})
	tracer := startTracer(t, collection, pid, interpreter)
	var counters pytrace.Counters
	var err error
	for deadline := time.Now().Add(eventTimeout); counters.Lost == 0; time.Sleep(10 * time.Millisecond) {
		if counters, err = tracer.Counters(); err != nil {
			t.Fatal(err)
		} else if time.Now().After(deadline) {
			t.Fatalf("nothing was lost within %v: %+v", eventTimeout, counters)
		}
	}
	if err := tracer.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := tracer.Flush(); err != nil {
		t.Fatal(err)
	}
	arrived := uint64(0)
	for ; ; arrived++ {
		if _, err := tracer.Next(); errors.Is(err, ringbuf.ErrFlushed) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if counters, err = tracer.Counters(); err != nil {
		t.Fatal(err)
	}
	others := counters.NoThread + counters.NotFound + counters.NoFrame
	if counters.Seen != arrived+counters.Lost+others {
		t.Errorf("%d samples arrived: %+v", arrived, counters)
	}
	lost, err := tracer.Lost()
	if err != nil {
		t.Fatal(err)
	}
	sum := uint64(0)
	for _, samples := range lost {
		sum += samples.Count
		if code := samples.Innermost.Code; code == nil || code.Name != "spin" || int(samples.PID) != pid {
			t.Errorf("lost: %+v of %+v", samples, code)
		}
	}
	if sum != counters.Lost {
		t.Errorf("lost: %+v, %+v", lost, counters)
	}
}

// checkTooDeep compares a sample that has as many frames as the tracer walks.
func checkTooDeep(t *testing.T, sample *pytrace.Sample, thread pythonThread) {
	t.Helper()
	if count := len(sample.Frames()); sample.Truncated != pytrace.TooDeep || count != maxPythonFrames {
		t.Errorf("%d frames, truncated: %q, want %d, %q",
			count, sample.Truncated, maxPythonFrames, pytrace.TooDeep)
	}
	thread.Frames = thread.Frames[:maxPythonFrames]
	sample.Truncated = ""
	checkFrames(t, sample, thread)
}

// checkFrames compares a sample with what Python reported. The innermost frame is at another
// instruction by now.
func checkFrames(t *testing.T, sample *pytrace.Sample, thread pythonThread) {
	t.Helper()
	if sample.Truncated != "" {
		t.Errorf("truncated: %s", sample.Truncated)
	}
	got := tracedFrames(sample)
	var want []tracedFrame
	for _, frame := range thread.Frames {
		want = append(want, frame.traced(t))
	}
	if len(got) != len(want) {
		t.Errorf("%d frames, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if i == 0 {
			want[i].Offset = got[i].Offset
		}
		if got[i] != want[i] {
			t.Fatalf("frame %d, %s: %+v, want %+v", i, thread.Frames[i].Name, got[i], want[i])
		}
	}
}

// checkLines resolves the samples with bytecode-lines, and compares the lines with those that Python
// reported.
func checkLines(
	t *testing.T, samples map[string]*pytrace.Sample, threads map[string]pythonThread,
) {
	t.Helper()
	index, folder := filepath.Join(t.TempDir(), "index"), sourceFolder(t)
	var lines bytes.Buffer
	var expected []pythonFrame
	for _, name := range slices.Sorted(maps.Keys(samples)) {
		sample, reported := samples[name], threads[name].Frames
		for i, frame := range sample.Frames() {
			if i > 1 && reported[i] == reported[i-1] {
				continue // the same frame of a recursion
			}
			want := reported[i]
			if i == 0 {
				want.Line++ // the report was made in the line before the loop
			}
			expected = append(expected, want)
			if err := json.NewEncoder(&lines).Encode(frame); err != nil {
				t.Fatal(err)
			}
		}
	}
	// One Python process runs both commands: starting one takes an emulated machine a second.
	resolved := json.NewDecoder(bytes.NewReader(runBytecodeLines(t, &lines,
		[]string{"index", folder, "-o", index}, []string{"resolve", "--json", "-i", index})))
	for i, want := range expected {
		var frame struct {
			File     string `json:"file"`
			Line     int    `json:"line"`
			Function string `json:"function"`
		}
		if err := resolved.Decode(&frame); err != nil {
			t.Fatal(err)
		}
		if filepath.Base(frame.File) != filepath.Base(want.File) || frame.Line != want.Line ||
			!want.isNamed(frame.Function) {
			t.Fatalf("frame %d is %s:%d %s, want %s:%d %s", i,
				frame.File, frame.Line, frame.Function, want.File, want.Line, want.Name)
		}
	}
}

// sourceFolder returns a folder with the script and with the module threading, in which the
// outermost frames of a thread are.
func sourceFolder(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, pattern := range []string{
		filepath.Join(scriptFolder, scriptName), "/payload/python/lib/python3.*/threading.py*",
	} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %q, %v", pattern, files, err)
		}
		content, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		err = os.WriteFile(filepath.Join(folder, filepath.Base(files[0])), content, 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// runBytecodeLines runs commands of bytecode-lines in the guest, and returns what they print.
func runBytecodeLines(t *testing.T, input io.Reader, commands ...[]string) []byte {
	t.Helper()
	encoded, err := json.Marshal(commands)
	if err != nil {
		t.Fatal(err)
	}
	const script = "import json, sys; from bytecode_lines.__main__ import run; " +
		"[run(args) for args in json.loads(sys.argv[1])]"
	cmd, err := guestpython.Command(t.Context(), "-S", "-c", script, string(encoded))
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = input, &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("bytecode-lines %s: %v: %s", encoded, err, stderr.Bytes())
	}
	t.Logf("bytecode-lines: %s", bytes.TrimSpace(stderr.Bytes()))
	return output
}
