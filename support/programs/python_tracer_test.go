// SPDX-License-Identifier: Apache-2.0

//go:build integration

package programs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/bpfmatrix/bpfmatrix/support/internal/bpftest"
	"github.com/bpfmatrix/bpfmatrix/support/internal/guestpython"
	"github.com/bpfmatrix/bpfmatrix/support/internal/pytrace"
)

const (
	spinsFolder = "testdata" // in the payload
	spinsScript = "spins.py"
	// More frames than one program walks, and few enough for all of them together.
	spinsDepth = 700
	mostFrames = 32 * 32 // FRAMES_PER_PART * MAX_PARTS
)

// A toldFrame is what Python says of a frame of its own.
type toldFrame struct {
	File        string `json:"file"`
	Name        string `json:"name"`
	Line        int    `json:"line"`
	FirstLine   uint32 `json:"first_line"`
	Arguments   uint32 `json:"arguments"`
	KeywordOnly uint32 `json:"keyword_only"`
	Flags       uint32 `json:"flags"`
	Table       string `json:"table"`
	Offset      int32  `json:"offset"`
	Times       int    `json:"times"` // that it follows itself
}

type toldThread struct {
	Thread string      `json:"thread"`
	TID    uint32      `json:"tid"`
	Frames []toldFrame `json:"frames"`
}

// frame returns what the tracer is to find.
func (f toldFrame) frame(t *testing.T) pytrace.Frame {
	t.Helper()
	table, err := hex.DecodeString(f.Table)
	if err != nil {
		t.Fatal(err)
	}
	// As support/pylines/identity.py has it.
	hashed := make([]byte, 4+64)
	hashed[0], hashed[1], hashed[2] = byte(len(table)), byte(len(table)>>8), byte(len(table)>>16)
	copy(hashed[4:], table)
	hash := fnv.New64a()
	hash.Write(hashed)
	return pytrace.Frame{
		Identity: pytrace.Identity{
			FirstLine: f.FirstLine, Arguments: f.Arguments, KeywordOnly: f.KeywordOnly,
			Flags: f.Flags, Hash: hash.Sum64(),
		},
		Offset: f.Offset,
	}
}

func TestPythonTracer(t *testing.T) {
	spins, err := guestpython.Command(
		t.Context(), "-S", filepath.Join(spinsFolder, spinsScript), strconv.Itoa(spinsDepth))
	if errors.Is(err, guestpython.ErrMissing) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	collection := bpftest.Load(t, "python_tracer")
	threads := startSpins(t, spins)
	interpreter, err := pytrace.Inspect(spins.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("CPython %s", interpreter.Version)
	tracer, err := pytrace.New(collection, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracer.Close)
	if err := tracer.Add(spins.Process.Pid, interpreter); err != nil {
		t.Fatal(err)
	}
	samples := samplesOf(t, tracer, threads)
	// From here on it would only slow the rest down.
	if err := tracer.Pause(); err != nil {
		t.Fatal(err)
	}
	spins.Process.Kill()

	t.Run("nested_calls", func(t *testing.T) {
		sameFrames(t, samples["nested"], threads["nested"])
	})

	t.Run("deep_recursion", func(t *testing.T) {
		if count := len(samples["deep"].Frames); count < spinsDepth {
			t.Errorf("%d frames of a recursion of %d", count, spinsDepth)
		}
		sameFrames(t, samples["deep"], threads["deep"])
	})

	t.Run("too_deep_is_said", func(t *testing.T) {
		sample := samples["too deep"]
		if sample.Truncated != pytrace.TooDeep || len(sample.Frames) != mostFrames {
			t.Errorf("%d frames, truncated: %q, want %d, %q",
				len(sample.Frames), sample.Truncated, mostFrames, pytrace.TooDeep)
		}
		told := threads["too deep"]
		told.Frames = told.Frames[:mostFrames]
		sample.Truncated = ""
		sameFrames(t, sample, told)
	})

	t.Run("lines_are_those_of_python", func(t *testing.T) {
		sameLines(t, samples, threads)
	})

	t.Run("every_sample_is_counted", func(t *testing.T) {
		counters, err := tracer.Counters()
		if err != nil {
			t.Fatal(err)
		}
		// All of its threads run Python code all the time.
		if counters.Seen == 0 || counters.TooDeep == 0 || counters.NoThread+counters.NoFrame > 0 {
			t.Errorf("counters: %+v", counters)
		}
	})
}

// startSpins starts Python, and returns its threads by their names, which spin then.
func startSpins(t *testing.T, cmd *exec.Cmd) map[string]toldThread {
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
	threads := map[string]toldThread{}
	for lines := bufio.NewReader(stdout); len(threads) < 3; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("Python ended: %v", err)
		}
		var thread toldThread
		if err := json.Unmarshal(line, &thread); err != nil {
			t.Fatalf("Python printed %.200q: %v", line, err)
		}
		var frames []toldFrame
		for _, frame := range thread.Frames {
			frames = append(frames, slices.Repeat([]toldFrame{frame}, frame.Times)...)
		}
		thread.Frames = frames
		threads[thread.Thread] = thread
	}
	return threads
}

// samplesOf waits for a sample of each thread in its endless loop.
func samplesOf(
	t *testing.T, tracer *pytrace.Tracer, threads map[string]toldThread,
) map[string]pytrace.Sample {
	t.Helper()
	found, seen := map[string]pytrace.Sample{}, map[string]int{}
	tracer.SetDeadline(time.Now().Add(patience))
	for len(found) < len(threads) {
		sample, err := tracer.Next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			counters, _ := tracer.Counters()
			t.Fatalf("samples of %d of %d threads within %v: %+v",
				len(found), len(threads), patience, counters)
		} else if err != nil {
			t.Fatal(err)
		}
		for name, thread := range threads {
			// A thread that has just told of itself is still on its way out of there.
			inner := thread.Frames[0].frame(t)
			if sample.TID == thread.TID && len(sample.Frames) > 0 &&
				sample.Frames[0].Identity == inner.Identity && sample.Frames[0].Offset > inner.Offset {
				// The first one may be of the very instruction between telling and the loop.
				if seen[name]++; seen[name] > 1 {
					found[name] = *sample
				}
			}
		}
	}
	return found
}

// sameFrames compares a sample with what Python said. Its innermost frame went on since.
func sameFrames(t *testing.T, sample pytrace.Sample, thread toldThread) {
	t.Helper()
	if sample.Truncated != "" {
		t.Errorf("truncated: %s", sample.Truncated)
	}
	var want []pytrace.Frame
	for _, frame := range thread.Frames {
		want = append(want, frame.frame(t))
	}
	if len(sample.Frames) != len(want) {
		t.Errorf("%d frames, want %d", len(sample.Frames), len(want))
	}
	for i := range min(len(sample.Frames), len(want)) {
		got, want := sample.Frames[i], want[i]
		if got.Identity != want.Identity || i > 0 && got.Offset != want.Offset {
			t.Fatalf("frame %d, %s: %+v, want %+v", i, thread.Frames[i].Name, got, want)
		}
	}
	if !slices.Equal(sample.Frames[1:], want[1:]) {
		t.Error("the frames are not the same")
	}
}

// sameLines has pylines resolve the samples, and compares with the lines that Python said.
func sameLines(
	t *testing.T, samples map[string]pytrace.Sample, threads map[string]toldThread,
) {
	t.Helper()
	index := filepath.Join(t.TempDir(), "index")
	// The outermost frames of a thread are of the module threading.
	folder := t.TempDir()
	for _, pattern := range []string{
		filepath.Join(spinsFolder, spinsScript), "python/lib/python3.*/threading.py*",
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
	var lines bytes.Buffer
	names := slices.Sorted(maps.Keys(samples))
	for _, name := range names {
		if err := json.NewEncoder(&lines).Encode(samples[name]); err != nil {
			t.Fatal(err)
		}
	}
	// One Python does both: to start one takes an emulated machine a second.
	resolved := json.NewDecoder(bytes.NewReader(pylines(t, &lines,
		[]string{"index", folder, "-o", index}, []string{"resolve", "--json", "-i", index})))
	for _, name := range names {
		var stack struct {
			Frames []struct {
				File     string `json:"file"`
				Line     int    `json:"line"`
				Function string `json:"function"`
			} `json:"frames"`
		}
		if err := resolved.Decode(&stack); err != nil {
			t.Fatal(err)
		}
		told := threads[name].Frames
		if len(stack.Frames) != len(samples[name].Frames) {
			t.Errorf("%s: %d frames", name, len(stack.Frames))
		}
		for i, frame := range stack.Frames {
			want := told[i]
			if i == 0 {
				want.Line++ // it told of itself in the line before its loop
			}
			if filepath.Base(frame.File) != filepath.Base(want.File) || frame.Line != want.Line ||
				frame.Function != want.Name {
				t.Fatalf("%s: frame %d is %s:%d %s, want %s:%d %s", name, i,
					frame.File, frame.Line, frame.Function, want.File, want.Line, want.Name)
			}
		}
	}
}

// pylines runs commands of support/pylines in the guest, and returns what they print.
func pylines(t *testing.T, input io.Reader, commands ...[]string) []byte {
	t.Helper()
	words, err := json.Marshal(commands)
	if err != nil {
		t.Fatal(err)
	}
	const all = "import json, sys; from pylines.__main__ import run; " +
		"[run(words) for words in json.loads(sys.argv[1])]"
	cmd, err := guestpython.Command(t.Context(), "-S", "-c", all, string(words))
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = input, &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("pylines %s: %v: %s", words, err, stderr.Bytes())
	}
	t.Logf("pylines: %s", bytes.TrimSpace(stderr.Bytes()))
	return output
}
