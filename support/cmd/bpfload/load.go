// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// With statistics alone, the log holds what the verifier objects to, but no instructions: it costs
	// nothing to write.
	logStats = ebpf.LogLevelStats
	// The way to the instruction that is objected to.
	logPath = ebpf.LogLevelBranch | ebpf.LogLevelStats
	// Every instruction as often as it was looked at, with the registers' states.
	logAll = ebpf.LogLevelInstruction | ebpf.LogLevelStats
	// To spare a program of usual size the verifier's second look at it, which a buffer that was too
	// small takes.
	logBytes = 4 << 20
)

func (w *worker) load(name string) error {
	o := w.object
	program := o.spec.Programs[name]
	result := &programEvent{
		Event: "program", Object: o.path, Program: name,
		Section: program.SectionName, AttachTo: program.AttachTo,
	}
	if program.Type == ebpf.UnspecifiedProgram {
		result.Outcome, result.Code = failed, codeUnknownSection
		result.Reason = "section " + program.SectionName + " tells no program type that libbpf knows"
		return w.event(result)
	}
	result.Type = programType(program.Type)
	if err := w.event(startEvent{"start", o.path, name, "load"}); err != nil {
		return err
	}
	spec, refusal, err := w.prepare(program)
	if err != nil {
		return err
	}
	if refusal != nil {
		refusal.into(result)
		return w.event(result)
	}

	started := time.Now()
	loaded, loadErr := w.try(spec, logStats)
	result.Seconds = time.Since(started).Seconds()
	result.Statistics = &statistics{ProgramInstructions: instructionCount(spec)}
	if loadErr != nil {
		var rejection *ebpf.VerifierError
		if errors.As(loadErr, &rejection) {
			result.Statistics.readLog(strings.Join(rejection.Log, "\n"), spec)
		}
		classify(o, spec, loadErr).into(result)
		if rejection != nil && len(rejection.Log) > 0 {
			if err := w.explain(result, spec, loadErr); err != nil {
				return err
			}
		}
		return w.event(result)
	}
	defer loaded.Close()
	result.Outcome = passed
	result.Statistics.readLog(loaded.VerifierLog, spec)
	result.Statistics.readInfo(loaded)
	if w.settings.FullLog {
		if err := w.annotate(result, spec); err != nil {
			return err
		}
	}
	return w.event(result)
}

// prepare returns a program with its maps in place.
func (w *worker) prepare(program *ebpf.ProgramSpec) (*ebpf.ProgramSpec, *refusal, error) {
	o := w.object
	spec := program.Copy()
	for i := range spec.Instructions {
		instruction := &spec.Instructions[i]
		if !instruction.IsLoadFromMap() || instruction.Reference() == "" {
			continue
		}
		m, isNew, failure := o.makeMap(instruction.Reference(), w.types)
		if failure != nil {
			return nil, &refusal{code: failure.code, reason: failure.reason, errno: errno(failure.cause)}, nil
		}
		if isNew {
			if err := w.event(describeMap(o.path, instruction.Reference(), m)); err != nil {
				return nil, nil, err
			}
		}
		if err := instruction.AssociateMap(m); err != nil {
			return nil, &refusal{code: codeBadObject, reason: err.Error()}, nil
		}
	}
	return spec, nil, nil
}

func describeMap(path, name string, m *ebpf.Map) mapEvent {
	event := mapEvent{Event: "map", Object: path, Name: name, Type: mapType(m.Type())}
	if info, err := m.Info(); err == nil {
		if bytes, ok := info.Memlock(); ok {
			event.MemoryBytes = &bytes
		}
	}
	return event
}

// try loads a program once.
func (w *worker) try(spec *ebpf.ProgramSpec, level ebpf.LogLevel) (*ebpf.Program, error) {
	collection, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{
		Programs:  map[string]*ebpf.ProgramSpec{spec.Name: spec},
		Types:     w.object.spec.Types,
		ByteOrder: spec.ByteOrder,
	}, ebpf.CollectionOptions{
		Cache:    w.types,
		Programs: ebpf.ProgramOptions{LogLevel: level, LogSizeStart: logBytes},
	})
	if err != nil {
		return nil, err
	}
	loaded := collection.DetachProgram(spec.Name)
	collection.Close()
	return loaded, nil
}

// explain loads a rejected program again, for the verifier's whole log.
func (w *worker) explain(result *programEvent, spec *ebpf.ProgramSpec, first error) error {
	result.LogLeftOut = "the loader died while it read the log again"
	if err := w.until(result); err != nil {
		return err
	}
	level := logPath
	if w.settings.FullLog {
		level = logAll
	}
	result.LogLeftOut = ""
	lines := logOf(first)
	if reason := tooLong(result.Statistics, level); reason != "" {
		result.LogLeftOut = reason
	} else if loaded, err := w.try(spec, level); err == nil {
		loaded.Close()
	} else if again := logOf(err); len(again) > 0 {
		lines = again
	}
	result.explain(w.object, spec, lines)
	return nil
}

func logOf(err error) []string {
	var rejection *ebpf.VerifierError
	if errors.As(err, &rejection) {
		return rejection.Log
	}
	return nil
}

// annotate loads a program again, for the log of every instruction.
func (w *worker) annotate(result *programEvent, spec *ebpf.ProgramSpec) error {
	result.LogLeftOut = "the loader died while it read the log of level 2"
	if err := w.until(result); err != nil {
		return err
	}
	result.LogLeftOut = tooLong(result.Statistics, logAll)
	if result.LogLeftOut != "" {
		return nil
	}
	loaded, err := w.try(spec, logAll)
	if err != nil {
		result.LogLeftOut = "it did not load again for its log: " + err.Error()
		return nil
	}
	defer loaded.Close()
	result.Log = packed(loaded.VerifierLog)
	result.LineInfo = lines(spec)
	return nil
}

func errno(err error) string {
	var number unix.Errno
	if !errors.As(err, &number) {
		return ""
	}
	if name := unix.ErrnoName(number); name != "" {
		return name
	}
	if number == 524 { // of the kernel's include/linux/errno.h; bpf() lets it out
		return "ENOTSUPP"
	}
	return ""
}
