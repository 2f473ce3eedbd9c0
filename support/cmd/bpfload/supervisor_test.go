// SPDX-License-Identifier: Apache-2.0

//go:build !integration

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

// misbehaviour is the environment variable that makes this test program a loader that does what no
// real loader can be made to do: its value says on which request it does what, such as
// "load p=crash".
const misbehaviour = "BPFLOAD_TEST_MISBEHAVIOUR"

// openOnce names a file that such a loader makes when it opens an object; if there is one, it exits.
const openOnce = "BPFLOAD_TEST_OPEN_ONCE"

func TestMain(m *testing.M) {
	if what, set := os.LookupEnv(misbehaviour); set {
		misbehave(what)
		return
	}
	os.Exit(m.Run())
}

// misbehave answers requests. Each object has the programs a, b and c, which all load, except for
// what the text says.
func misbehave(text string) {
	todo := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		on, what, _ := strings.Cut(part, "=")
		todo[on] = what
	}
	replies := os.NewFile(protocol.RepliesDescriptor, "replies")
	answers := map[string]string{
		"start": `{"loader":"test","version":"1","done":true}`,
		"open":  `{"programs":[{"name":"a"},{"name":"b"},{"name":"c"}],"done":true}`,
		"load":  `{"result":{"loaded":true,"log":"processed 9 insns (limit 1000000)\n"},"done":true}`,
	}
	requests := json.NewDecoder(os.Stdin)
	for {
		var r protocol.Request
		if requests.Decode(&r) != nil {
			return
		}
		words := strings.Fields(strings.Join([]string{r.Request, r.Object, r.Program, string(r.Log)}, " "))
		what := todo[strings.Join(words, " ")]
		if what == "" && r.Request == "load" {
			what = todo["load "+r.Program]
		}
		if name := os.Getenv(openOnce); r.Request == protocol.Open && name != "" {
			if os.Mkdir(name, 0o700) != nil {
				what = "exit"
			}
		}
		switch what {
		case "crash":
			fmt.Println("a line of its standard output")
			fmt.Fprintln(os.Stderr, "a line of its standard error")
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "exit":
			os.Exit(3)
		case "hang":
			_, _ = io.Copy(io.Discard, os.Stdin)
		case "garbage":
			fmt.Fprintln(replies, "Segmentation fault")
			_, _ = io.Copy(io.Discard, os.Stdin)
		case "nothing":
			fmt.Fprintln(replies, `{"done":true}`)
		case "reject":
			fmt.Fprintln(replies, `{"result":{"loaded":false,"log":"no\nprocessed 9 insns (limit 1000000)\n",`+
				`"failure":{"step":"load","errno":"EACCES","words":["no"]}},"done":true}`)
		case "memory":
			fmt.Fprintln(replies, `{"result":{"loaded":false,"failure":{"step":"map","errno":"ENOMEM"}},"done":true}`)
		case "usage":
			fmt.Fprintln(replies, `{"usage":"--set a=b: expected a number","done":true}`)
		default:
			fmt.Fprintln(replies, answers[r.Request])
		}
	}
}

// runWith returns the events of a run with a loader that misbehaves.
func runWith(t *testing.T, what string, s settings) ([]map[string]any, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(misbehaviour, what)
	s.Loader = self
	return eventsOf(t, &s)
}

func eventsOf(t *testing.T, s *settings) ([]map[string]any, error) {
	t.Helper()
	if s.Limit == 0 {
		s.Limit = time.Minute
	}
	if s.Jobs == 0 {
		s.Jobs = 1
	}
	var out bytes.Buffer
	failure := run(s, &printer{out: &out})
	var events []map[string]any
	for decoder := json.NewDecoder(&out); ; {
		var event map[string]any
		if err := decoder.Decode(&event); errors.Is(err, io.EOF) {
			return events, failure
		} else if err != nil {
			t.Fatal(err)
		}
		events = append(events, event)
	}
}

// resultsOf returns the results of programs, and those of objects that can't be opened.
func resultsOf(events []map[string]any) map[string]map[string]any {
	results := map[string]map[string]any{}
	for _, event := range events {
		switch event["event"] {
		case "program":
			results[fmt.Sprint(event["object"], " ", event["program"])] = event
		case "object":
			results[fmt.Sprint(event["object"])] = event
		}
	}
	return results
}

// summary returns the outcome and the code of each result.
func summary(results map[string]map[string]any) string {
	var lines []string
	for name, event := range results {
		words := []string{name}
		for _, key := range []string{"outcome", "code"} {
			if event[key] != nil {
				words = append(words, fmt.Sprint(event[key]))
			}
		}
		lines = append(lines, strings.Join(words, " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

func TestALoaderThatCantBeUsedIsOneError(t *testing.T) {
	for what, want := range map[string]string{
		"start=crash":   "can't be used: the loader died: signal: killed",
		"start=exit":    "can't be used: the loader died: exit status 3",
		"start=garbage": "can't be used: the loader's answer is not JSON",
		"start=nothing": "can't be used: the loader did not say its name",
	} {
		events, err := runWith(t, what, settings{Objects: []string{"a.o"}, Jobs: 2})
		if err == nil || !strings.Contains(err.Error(), want) || len(events) > 0 {
			t.Errorf("%s: got %v, %v, want %q", what, events, err, want)
		}
	}
	events, err := runWith(t, "start=hang", settings{Objects: []string{"a.o"}, Limit: time.Second / 5})
	if err == nil || !strings.Contains(err.Error(), "it took longer than 200ms") || len(events) > 0 {
		t.Errorf("hang: got %v, %v", events, err)
	}
	_, err = eventsOf(t, &settings{Loader: "/no/such/loader", Objects: []string{"a.o"}})
	if err == nil || !strings.Contains(err.Error(), "can't be started") {
		t.Errorf("no such file: got %v", err)
	}
}

func TestWhatOneRequestDoesToALoaderCostsOnlyThatRequest(t *testing.T) {
	for what, want := range map[string]string{
		"":               "x a passed; x b passed; x c passed; y a passed; y b passed; y c passed",
		"load a=crash":   "x a error loader-crashed; x b passed; x c passed; y a error loader-crashed; y b passed; y c passed",
		"load b=exit":    "x a passed; x b error loader-crashed; x c passed; y a passed; y b error loader-crashed; y c passed",
		"load c=garbage": "x a passed; x b passed; x c error loader-crashed; y a passed; y b passed; y c error loader-crashed",
		"load c=nothing": "x a passed; x b passed; x c error loader-crashed; y a passed; y b passed; y c error loader-crashed",
		"open x=crash":   "x loader-crashed; y a passed; y b passed; y c passed",
		"open y=nothing": "x a passed; x b passed; x c passed; y", // an object without programs
	} {
		for _, jobs := range []int{1, 3} {
			events, err := runWith(t, what, settings{Objects: []string{"x", "y"}, Jobs: jobs})
			if got := summary(resultsOf(events)); got != want || err != nil {
				t.Errorf("%s with %d jobs: got %s, %v, want %s", what, jobs, got, err, want)
			}
		}
	}
}

func TestALoaderThatHangsIsATimeout(t *testing.T) {
	events, err := runWith(t, "load b=hang,open y=hang",
		settings{Objects: []string{"x", "y"}, Limit: time.Second})
	results := resultsOf(events)
	want := "x a passed; x b timeout timeout; x c passed; y timeout"
	if got := summary(results); got != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if got := results["x b"]["reason"]; got != "it took longer than 1s" {
		t.Errorf("got %v", got)
	}
}

func TestTheReasonOfACrashIsWhatTheLoaderPrinted(t *testing.T) {
	events, _ := runWith(t, "load a=crash", settings{Objects: []string{"x"}})
	got := fmt.Sprint(resultsOf(events)["x a"]["reason"])
	for _, want := range []string{"signal: killed", "standard output", "standard error"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestARejectionKeepsItsFirstLogIfTheLoaderDiesOfTheSecond(t *testing.T) {
	events, err := runWith(t, "load a stats=reject,load a path=crash", settings{Objects: []string{"x"}})
	event := resultsOf(events)["x a"]
	if err != nil || event["outcome"] != "failed" || event["code"] != nil || event["log"] == nil ||
		!strings.Contains(fmt.Sprint(event["log_left_out"]), "died while it loaded the program again") {
		t.Fatalf("got %v, %v", event, err)
	}
	if got := event["failure"].(map[string]any)["errno"]; got != "EACCES" {
		t.Errorf("got %v", got)
	}
}

func TestWhatFailedForWantOfMemoryIsTriedAgainAlone(t *testing.T) {
	// It fails the second time as well. It has one result all the same.
	events, err := runWith(t, "load b=memory", settings{Objects: []string{"x"}, Jobs: 2})
	var starts, results int
	for _, event := range events {
		if event["program"] == "b" {
			switch event["event"] {
			case "start":
				starts++
			case "program":
				results++
			}
		}
	}
	if starts != 2 || results != 1 || err != nil {
		t.Errorf("b was loaded %d times and has %d results, %v", starts, results, err)
	}
}

func TestAnObjectThatCantBeOpenedAgainHasResults(t *testing.T) {
	// The program b takes the loader with it, and then the object can't be opened.
	t.Setenv(openOnce, filepath.Join(t.TempDir(), "opened"))
	events, err := runWith(t, "load b=exit", settings{Objects: []string{"x"}})
	want := "x a passed; x b error loader-crashed; x c error loader-crashed"
	if got := summary(resultsOf(events)); got != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestAUsageErrorOfTheLoaderEndsTheRun(t *testing.T) {
	_, err := runWith(t, "open x=usage", settings{Objects: []string{"x", "y"}, Jobs: 2})
	var usage usageError
	if !errors.As(err, &usage) || usage.Error() != "--set a=b: expected a number" {
		t.Errorf("got %v", err)
	}
}

// TestRealLoader has a real loader open objects that no loader can open, which takes no kernel.
func TestRealLoader(t *testing.T) {
	folder := t.TempDir()
	loader := filepath.Join(folder, "loader")
	if out, err := exec.Command("go", "build", "-o", loader, "../loader-cilium-ebpf").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, missing := filepath.Join(folder, "text.o"), filepath.Join(folder, "missing.o")
	if err := os.WriteFile(text, bytes.Repeat([]byte("text "), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	events, err := eventsOf(t, &settings{Loader: loader, Objects: []string{text, missing}, Jobs: 2})
	if err != nil || events[0]["loader"] != "cilium-ebpf" {
		t.Fatalf("got %v, %v", events, err)
	}
	results := resultsOf(events)
	for object, want := range map[string]string{text: "bad magic", missing: "no such file"} {
		failure, _ := results[object]["failure"].(map[string]any)
		if failure["step"] != "open" || !strings.Contains(fmt.Sprint(failure["words"]), want) {
			t.Errorf("%s: got %v, want %q", object, results[object], want)
		}
	}
}

// While a program is attached that decides on system calls, nothing is loaded; while another one
// is, programs are.
func TestAttachLock(t *testing.T) {
	xdp := protocol.Program{Type: "xdp", Section: "xdp"}
	for _, test := range []struct {
		program    protocol.Program
		othersLoad bool
	}{
		{xdp, true},
		{protocol.Program{Type: "tracing", Section: "fentry/f"}, true},
		{protocol.Program{Type: "lsm", Section: "lsm/bpf"}, false},
		{protocol.Program{Type: "lsm", Section: "?lsm_cgroup/bpf"}, false},
		{protocol.Program{Type: "tracing", Section: "?fmod_ret.s/f"}, false},
	} {
		lock := &attachLock{}
		unlock := lock.lockFor(protocol.Attach, test.program)
		if got := lock.loading.TryRLock(); got != test.othersLoad {
			t.Errorf("%+v: others can load: %v", test.program, got)
		} else if got {
			lock.loading.RUnlock()
		}
		if lock.attached.TryLock() {
			t.Errorf("%+v: another program can be attached", test.program)
		}
		unlock()
		lock.lockFor(protocol.Load, xdp)()
		lock.lockFor(protocol.Attach, xdp)()
	}
	// The race detector, or the sum, shows whether two are attached at a time.
	lock, count := &attachLock{}, 0
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			defer lock.lockFor(protocol.Attach, xdp)()
			count++
		})
	}
	all.Wait()
	if count != 100 {
		t.Errorf("got %d", count)
	}
}
