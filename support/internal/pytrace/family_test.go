// SPDX-License-Identifier: Apache-2.0

// Left out with the tag: `go test -c -tags integration ./...` builds only the tests that run in a
// guest.
//go:build !integration

package pytrace

import (
	"slices"
	"strings"
	"testing"
)

func TestCommandName(t *testing.T) {
	for line, want := range map[string]string{
		"/usr/bin/sort -n": "sort",
		"/payload/python/bin/python3 /payload/script/a.py -x": "a.py",
		"python3.14 -OX dev -W error a.py":                    "a.py",
		"python3 -Xdev -m pkg.tool x":                         "pkg.tool",
		"python3 -Im pkg.tool":                                "pkg.tool",
		"python3 -mpkg.tool":                                  "pkg.tool",
		"python3 -c pass":                                     "python3 -c",
		"python3 -cpass":                                      "python3 -c",
		"python3 -":                                           "-",
		"python3":                                             "python3",
		"python3 -X":                                          "python3",
		"python3 --check-hash-based-pycs a.py":                "a.py",
	} {
		if got := commandName(strings.Fields(line)); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
	for code, want := range map[string]string{
		"from multiprocessing.spawn import spawn_main; spawn_main()":          "multiprocessing.spawn",
		"from multiprocessing.resource_tracker import main;main(5)":           "multiprocessing.resource_tracker",
		"from multiprocessing.forkserver import main; main(1, 2, [])":         "multiprocessing.forkserver",
		"import sys; from multiprocessing.forkserver import main; main(1, 2)": "multiprocessing.forkserver",
		"import sys; print(sys.argv)":                                         "python3 -c",
	} {
		if got := commandName([]string{"python3", "-c", code, "--multiprocessing-fork"}); got != want {
			t.Errorf("%s: got %q, want %q", code, got, want)
		}
	}
}

func TestAPythonThatEndsTooSoonIsNotTakenForAnotherProgram(t *testing.T) {
	family := familyOf(t)
	for pid, comm := range map[uint32]string{1 << 30: "python3", 1<<30 + 1: "sort"} {
		family.event(processRecord{Event: processForked, TGID: pid, Parent: 1, Sampled: 1})
		executed := processRecord{Event: processExecuted, TGID: pid}
		copy(executed.Comm[:], comm)
		family.event(executed)
	}
	family.seeks.Wait()
	for _, process := range family.End()[1:] {
		if refused := process.Refusal != ""; refused != (process.Name == "python3") {
			t.Errorf("got %+v", process)
		}
	}
}

// familyOf returns a family that looks into no process.
func familyOf(t *testing.T) *Family {
	t.Helper()
	family := &Family{
		tracer: &Tracer{}, living: map[uint32]*Process{}, ended: make(chan struct{}),
	}
	family.add(1, 0, "a.py").Python = "3.11"
	return family
}

func names(processes []*Process) (names []string) {
	for _, process := range processes {
		names = append(names, process.Name)
	}
	return names
}

func TestForksHaveTheNameOfTheirParent(t *testing.T) {
	family := familyOf(t)
	for _, event := range []processRecord{
		{Event: processForked, TGID: 2, Parent: 1, Sampled: 1},
		{Event: processForked, TGID: 3, Parent: 2, Sampled: 1},
		{Event: processForked, TGID: 4, Parent: 1},
		{Event: processForked, TGID: 9, Parent: 8, Sampled: 1}, // of an unknown process
	} {
		family.event(event)
	}
	got := family.End()
	want := []string{"a.py", "fork of a.py", "fork of a.py (2)", "fork of a.py (3)"}
	if !slices.Equal(names(got), want) {
		t.Errorf("got %q", names(got))
	}
	if got[1].Python != "3.11" || got[2].Python != "3.11" || got[3].Python != "" {
		t.Errorf("got %+v %+v %+v", got[1], got[2], got[3])
	}
	if family.Process(3) != got[2] || family.Process(77) != nil {
		t.Errorf("got %+v, %+v", family.Process(3), family.Process(77))
	}
}

func TestAProgramThatAForkExecutesGivesItsName(t *testing.T) {
	family := familyOf(t)
	// No process has this id, so that the program has ended when its name is asked for.
	family.event(processRecord{Event: processForked, TGID: 1 << 30, Parent: 1, Sampled: 1})
	// This fork is one for good, and has no number though it began before the other one executed.
	family.event(processRecord{Event: processForked, TGID: 3, Parent: 1, Sampled: 1})
	executed := processRecord{Event: processExecuted, TGID: 1 << 30}
	copy(executed.Comm[:], "sort")
	family.event(executed)
	got := family.End()
	if want := []string{"a.py", "sort", "fork of a.py"}; !slices.Equal(names(got), want) {
		t.Errorf("got %q", names(got))
	}
	if got[1].Python != "" {
		t.Errorf("got %+v", got[1])
	}
}

func TestProcessRecords(t *testing.T) {
	var records records
	if err := records.addProcess(make([]byte, 8)); err == nil {
		t.Error("a short record is no error")
	}
	var seen []uint32
	records.family = func(event processRecord) { seen = append(seen, event.Event) }
	records.trace(1, process{BytesData: 32})
	for _, event := range []byte{processForked, processExecuted, processExited} {
		record := make([]byte, 40)
		record[0], record[4], record[8], record[12], record[16] = recordProcess, event, 2, 1, 1
		if err := records.addProcess(record); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(seen, []uint32{processForked, processExecuted, processExited}) {
		t.Errorf("got %v", seen)
	}
	if got := records.process(2); got.offsets.BytesData != 32 || got.memory != nil {
		t.Errorf("got %+v", got)
	}
}
