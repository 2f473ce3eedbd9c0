// SPDX-License-Identifier: Apache-2.0

package pytrace

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// interpreterLimit is how long a program may take to map its interpreter.
const interpreterLimit = 10 * time.Second

// A Process is one that the traced script has started, or the script itself.
type Process struct {
	PID    uint32 `json:"pid"`
	Parent uint32 `json:"parent,omitempty"` // the PID of the process that started it
	Name   string `json:"name"`             // before [Family.End], others may have it, too
	// The version of CPython, or empty if the process is not sampled.
	Python string `json:"python,omitempty"`
	// Why the process is not sampled; empty for a program that is not one of Python.
	Refusal string `json:"refusal,omitempty"`
}

// A Family is a process and all that it starts, directly or not. A forked child is sampled from its
// first instruction on. A child that executes a program is sampled as soon as it has mapped an
// interpreter.
type Family struct {
	tracer *Tracer
	mutex  sync.Mutex
	order  []*Process
	living map[uint32]*Process
	seeks  sync.WaitGroup
	ended  chan struct{}
}

// Follow adds a process, whose interpreter is known, and from then on what it starts. It must be called
// before [Tracer.Next].
func (t *Tracer) Follow(pid int, interpreter *Interpreter) (*Family, error) {
	family := &Family{
		tracer: t, living: map[uint32]*Process{}, ended: make(chan struct{}),
	}
	name, _ := nameOf(pid, "(ended)")
	process := family.add(uint32(pid), 0, name)
	process.Python = interpreter.Version
	t.records.family = family.event
	if err := t.Add(pid, interpreter); err != nil {
		return nil, err
	}
	return family, t.collection.Maps["followed"].Put(uint32(pid), uint8(1))
}

// End ends the search for interpreters, and returns the processes in the order in which they started.
// Of those with the same name, all but the first get a number.
func (f *Family) End() []*Process {
	close(f.ended)
	f.seeks.Wait()
	f.mutex.Lock()
	defer f.mutex.Unlock()
	names := map[string]bool{}
	for _, process := range f.order {
		name := process.Name
		for number := 2; names[process.Name]; number++ {
			process.Name = fmt.Sprintf("%s (%d)", name, number)
		}
		names[process.Name] = true
	}
	return f.order
}

// Process returns the process that had this id last; nil if there was none.
func (f *Family) Process(pid uint32) *Process {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.living[pid]
}

func (f *Family) add(pid, parent uint32, name string) *Process {
	process := &Process{PID: pid, Parent: parent, Name: name}
	f.order = append(f.order, process)
	f.living[pid] = process
	return process
}

// event is called for each record of a process, in the order in which they happened.
func (f *Family) event(event processRecord) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	process := f.living[event.TGID]
	switch event.Event {
	case processForked:
		parent := f.living[event.Parent]
		if parent == nil {
			return
		}
		child := f.add(event.TGID, event.Parent, forkOf(parent.Name))
		if child.Python = parent.Python; event.Sampled == 0 {
			child.Python = ""
			child.Refusal = parent.Refusal
		}
	case processExecuted:
		if process == nil {
			return
		}
		// It was a fork only to execute this program, which takes its place. A sample that was taken
		// before keeps the fork's name.
		comm, _, _ := bytes.Cut(event.Comm[:], []byte{0})
		name, python := nameOf(int(event.TGID), string(comm))
		program := &Process{PID: process.PID, Parent: process.Parent, Name: name}
		f.order[slices.Index(f.order, process)] = program
		f.living[event.TGID] = program
		f.seeks.Go(func() {
			if err := f.seek(program); errors.Is(err, ErrUnsupported) {
				f.refuse(program, err.Error())
			} else if err != nil && python {
				f.refuse(program, "its interpreter was not found before it ended")
			}
		})
	}
}

func forkOf(name string) string { return "fork of " + strings.TrimPrefix(name, "fork of ") }

// seek waits until a process has mapped an interpreter, and has it sampled then. An error says why it
// is not sampled.
func (f *Family) seek(process *Process) error {
	wait := time.Millisecond
	for deadline := time.Now().Add(interpreterLimit); time.Now().Before(deadline); {
		interpreter, err := Inspect(int(process.PID))
		if err == nil {
			err = f.tracer.Add(int(process.PID), interpreter)
		}
		switch {
		case err == nil:
			f.mutex.Lock()
			process.Python = interpreter.Version
			f.mutex.Unlock()
			return nil
		case errors.Is(err, os.ErrNotExist), errors.Is(err, ErrUnsupported):
			return err // if it does not exist, it has ended
		}
		select {
		case <-f.ended:
			return ErrNoPython
		case <-time.After(wait):
		}
		// A program that is none of Python must not be slowed down by this.
		wait = min(wait*5/4+time.Millisecond/4, 200*time.Millisecond)
	}
	return ErrNoPython
}

func (f *Family) refuse(process *Process, why string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	process.Refusal = why
}

// nameOf returns a name for people of the program that a process executes: its script or module, or
// else the name of its file. If it has ended, it is named as given. The second result is whether the
// program's name is one of Python.
func nameOf(pid int, comm string) (string, bool) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) == 0 {
		return comm, isPython(comm)
	}
	var words []string
	for _, word := range bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0}) {
		words = append(words, string(word))
	}
	return commandName(words), isPython(filepath.Base(words[0]))
}

func isPython(program string) bool { return strings.HasPrefix(program, "python") }

// ofMultiprocessing matches the code that multiprocessing gives to the interpreters that it starts:
// get_command_line in spawn.py, and ensure_running in forkserver.py, which begins with "import sys; "
// in some releases of 3.14, and in resource_tracker.py.
var ofMultiprocessing = regexp.MustCompile(`^(?:import sys; )?from (multiprocessing\.\w+) import`)

// commandName returns a name for people of a command line.
func commandName(words []string) string {
	base := filepath.Base(words[0])
	if !isPython(base) {
		return base
	}
	for i := 1; i < len(words); i++ {
		word := words[i]
		if !strings.HasPrefix(word, "-") || word == "-" {
			return filepath.Base(word)
		}
		if strings.HasPrefix(word, "--") {
			continue
		}
		for at, letter := range word[1:] {
			value := word[at+2:]
			if strings.ContainsRune("cmWX", letter) && value == "" {
				if i++; i < len(words) {
					value = words[i]
				}
			}
			switch letter {
			case 'c':
				if found := ofMultiprocessing.FindStringSubmatch(value); found != nil {
					return found[1]
				}
				return base + " -c"
			case 'm':
				return value
			}
			if letter == 'W' || letter == 'X' {
				break
			}
		}
	}
	return base
}
