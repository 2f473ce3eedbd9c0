// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

const (
	// Statistics, and the verifier's message if it rejects the program, but no instructions. This
	// log is short and costs nothing to write.
	logStats = ebpf.LogLevelStats
	// The instructions on the path to the one that is rejected.
	logPath = ebpf.LogLevelBranch | ebpf.LogLevelStats
	// Every instruction as often as the verifier visits it, with the state of the registers.
	logAll = ebpf.LogLevelInstruction | ebpf.LogLevelStats
	// Large enough for the log of most programs: if the buffer is too small, the verifier runs a
	// second time. For statistics alone the library's smaller default serves, as clearing a buffer
	// takes time.
	logBytes = 4 << 20
)

// load loads a program, and sends events for its start and its result.
func (w *worker) load(name string) error {
	o := w.object
	program := o.spec.Programs[name]
	result := &programEvent{
		Event: "program", Object: o.path, Program: name,
		Section: program.SectionName, AttachTo: program.AttachTo,
	}
	if program.Type == ebpf.UnspecifiedProgram {
		result.Outcome, result.Code = failed, codeUnknownSection
		result.Reason = "libbpf knows no program type for section " + program.SectionName
		return w.sendEvent(result)
	}
	result.Type = programType(program.Type)
	w.lockAttach(false)
	defer w.unlockAttach()
	if err := w.sendEvent(startEvent{"start", o.path, name, "load"}); err != nil {
		return err
	}
	spec, failure, err := w.prepare(program)
	if err != nil {
		return err
	}
	if failure != nil {
		failure.copyTo(result)
		return w.sendEvent(result)
	}
	started := time.Now()
	spec, loaded, loadErr := w.loadWithOrWithoutBTF(result, spec)
	result.Seconds = time.Since(started).Seconds()
	result.Statistics = &statistics{ProgramInstructions: instructionCount(spec)}
	if loadErr != nil {
		return w.reportFailure(result, spec, loadErr)
	}
	defer loaded.Close()
	return w.reportSuccess(result, spec, loaded)
}

// loadWithOrWithoutBTF loads a program. If the kernel refuses the object's BTF, it loads the
// program without it, as libbpf does, and notes that in the result. It returns the specification
// that was used.
func (w *worker) loadWithOrWithoutBTF(
	result *programEvent, spec *ebpf.ProgramSpec,
) (*ebpf.ProgramSpec, *ebpf.Program, error) {
	loaded, err := w.tryLoad(spec, logStats)
	if !refusesBTF(err) || needsOwnBTF(spec) {
		return spec, loaded, err
	}
	refusal := rejectionMessage(logOf(err))
	// The BTF of its maps stays: the program can't do without that.
	spec = withoutBTF(spec)
	if loaded, err = w.tryLoad(spec, logStats); err == nil {
		result.Reason = oneLine(
			"loaded without the object's BTF, which this kernel refuses: " + refusal)
	}
	return spec, loaded, err
}

// reportFailure sends the result of a program that did not load.
func (w *worker) reportFailure(result *programEvent, spec *ebpf.ProgramSpec, loadErr error) error {
	var rejection *ebpf.VerifierError
	if errors.As(loadErr, &rejection) {
		result.Statistics.readLog(strings.Join(rejection.Log, "\n"), spec)
	}
	classify(spec, loadErr).copyTo(result)
	if rejection != nil && len(rejection.Log) > 0 {
		if err := w.addRejectionLog(result, spec, loadErr); err != nil {
			return err
		}
	}
	return w.sendEvent(result)
}

// reportSuccess attaches a loaded program and adds its log if the settings ask for that, and sends
// the result.
func (w *worker) reportSuccess(
	result *programEvent, spec *ebpf.ProgramSpec, loaded *ebpf.Program,
) error {
	result.Outcome = passed
	result.Statistics.readLog(loaded.VerifierLog, spec)
	result.Statistics.readInfo(loaded)
	if w.settings.Attach && !w.object.isTailCalled(result.Program) {
		if err := w.attach(result, spec, loaded); err != nil {
			return err
		}
	}
	if w.settings.FullLog {
		if err := w.addFullLog(result, spec); err != nil {
			return err
		}
	}
	return w.sendEvent(result)
}

// attach attaches a loaded program, and detaches it.
func (w *worker) attach(result *programEvent, spec *ebpf.ProgramSpec, loaded *ebpf.Program) error {
	if err := w.sendEvent(startEvent{"start", result.Object, result.Program, "attach"}); err != nil {
		return err
	}
	// While it is attached, such a program can make system calls of the other workers fail.
	w.lockAttach(spec.Type == ebpf.LSM || spec.AttachType == ebpf.AttachModifyReturn)
	attached, err := attach(spec, loaded)
	if err == nil {
		err = attached.Close()
	}
	w.lockAttach(false)
	isAttached := err == nil
	switch {
	case errors.Is(err, errNoGenericTarget):
		return nil
	case errors.Is(err, os.ErrNotExist) && result.AttachTo != "":
		result.Code = codeAttachTargetMissing
		result.Reason = "it loads, but this kernel has no " + targetName(spec) + " to attach it to"
	case spec.Type == ebpf.Tracing && errors.Is(err, ebpf.ErrNotSupported),
		spec.Type == ebpf.LSM && errors.Is(err, ebpf.ErrNotSupported):
		result.Code = codeAttachFailed
		result.Reason = "it loads, but this kernel can't attach it: " +
			"it has no trampolines on this architecture"
	case err != nil:
		result.Code = codeAttachFailed
		result.Reason = oneLine("it loads, but can't be attached: " + err.Error())
	}
	result.Attached = &isAttached
	if err != nil {
		result.Outcome, result.Errno = failed, errnoName(err)
	}
	return nil
}

// lockAttach takes the lock that all workers share, or that one of them has exclusively. It is
// needed only if programs are attached.
func (w *worker) lockAttach(exclusive bool) {
	if !w.settings.Attach {
		return
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	for unix.Flock(int(w.attachLock.Fd()), how) == unix.EINTR {
	}
}

func (w *worker) unlockAttach() {
	if w.settings.Attach {
		_ = unix.Flock(int(w.attachLock.Fd()), unix.LOCK_UN)
	}
}

// refusesBTF tells whether an error says that the kernel refused the object's BTF.
func refusesBTF(err error) bool {
	return err != nil && strings.Contains(err.Error(), "load BTF: ") && len(logOf(err)) > 0
}

// needsOwnBTF tells whether the kernel takes a program only together with its BTF.
func needsOwnBTF(spec *ebpf.ProgramSpec) bool {
	return spec.Type == ebpf.Extension || spec.Type == ebpf.StructOps
}

func withoutBTF(spec *ebpf.ProgramSpec) *ebpf.ProgramSpec {
	spec = spec.Copy()
	for i := range spec.Instructions {
		instruction := &spec.Instructions[i]
		*instruction = btf.WithFuncMetadata(*instruction, nil).WithSource(nil)
	}
	return spec
}

// prepare creates the maps of a program and, if it is an extension, loads the program that it
// extends. It returns a copy of the program that refers to them.
func (w *worker) prepare(program *ebpf.ProgramSpec) (*ebpf.ProgramSpec, *loadFailure, error) {
	o := w.object
	spec := program.Copy()
	for i := range spec.Instructions {
		instruction := &spec.Instructions[i]
		if !instruction.IsLoadFromMap() || instruction.Reference() == "" {
			continue
		}
		m, isNew, failure := o.createMap(instruction.Reference(), w.types)
		if failure != nil {
			return nil, &loadFailure{failure.code, failure.reason, errnoName(failure.cause)}, nil
		}
		if isNew {
			if err := w.sendEvent(newMapEvent(o.path, instruction.Reference(), m)); err != nil {
				return nil, nil, err
			}
		}
		if err := instruction.AssociateMap(m); err != nil {
			return nil, &loadFailure{code: codeBadObject, reason: err.Error()}, nil
		}
	}
	if spec.Type == ebpf.Extension {
		target, failure, err := w.loadExtensionTarget(spec.AttachTo)
		if failure != nil || err != nil {
			return nil, failure, err
		}
		spec.AttachTarget = target
	}
	return spec, nil, nil
}

// loadExtensionTarget loads the program that has a function which an extension (freplace) replaces.
// It looks in the extension's own object first, and then in the other objects.
func (w *worker) loadExtensionTarget(function string) (*ebpf.Program, *loadFailure, error) {
	if function == "" {
		return nil, &loadFailure{code: codeAttachTargetMissing,
			reason: "its section does not name the function that it replaces: freplace/FUNCTION"}, nil
	}
	for _, path := range append([]string{w.object.path}, w.settings.Objects...) {
		o := w.object
		if path != o.path {
			var err error
			if o, err = openObject(path, &settings{}); err != nil {
				continue
			}
			w.targetObjects = append(w.targetObjects, o)
		}
		for _, name := range o.names {
			program := o.spec.Programs[name]
			if program.Type == ebpf.Extension || !hasFunction(program, function) {
				continue
			}
			loaded, failure, err := w.loadTarget(o, program)
			if err == nil && failure != nil {
				failure = &loadFailure{codeAttachTargetMissing, fmt.Sprintf(
					"%s of %s, whose function %s it replaces, does not load: %s",
					name, path, function, failure.reason), failure.errno}
			}
			return loaded, failure, err
		}
	}
	return nil, &loadFailure{code: codeAttachTargetMissing, reason: fmt.Sprintf(
		"it replaces the function %s, which no program of the given objects has: "+
			"verify it together with the object that has it", function)}, nil
}

func hasFunction(program *ebpf.ProgramSpec, name string) bool {
	for i := range program.Instructions {
		if program.Instructions[i].Symbol() == name {
			return true
		}
	}
	return false
}

func (w *worker) loadTarget(
	o *object, program *ebpf.ProgramSpec,
) (*ebpf.Program, *loadFailure, error) {
	if loaded := o.targets[program.Name]; loaded != nil {
		return loaded, nil, nil
	}
	own := w.object
	w.object = o
	defer func() { w.object = own }()
	spec, failure, err := w.prepare(program)
	if failure != nil || err != nil {
		return nil, failure, err
	}
	loaded, err := w.tryLoad(spec, logStats)
	if err != nil {
		return nil, classify(spec, err), nil
	}
	o.targets[program.Name] = loaded
	return loaded, nil, nil
}

func newMapEvent(path, name string, m *ebpf.Map) mapEvent {
	event := mapEvent{Event: "map", Object: path, Name: name, Type: mapType(m.Type())}
	if info, err := m.Info(); err == nil {
		if bytes, ok := info.Memlock(); ok {
			event.MemoryBytes = &bytes
		}
	}
	return event
}

// tryLoad loads a program once, with a log of a level.
func (w *worker) tryLoad(spec *ebpf.ProgramSpec, level ebpf.LogLevel) (*ebpf.Program, error) {
	logSize := uint32(logBytes)
	if level == logStats {
		logSize = 0 // the library's default
	}
	collection, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{
		Programs:  map[string]*ebpf.ProgramSpec{spec.Name: spec},
		Types:     w.object.spec.Types,
		ByteOrder: spec.ByteOrder,
	}, ebpf.CollectionOptions{
		Cache:    w.types,
		Programs: ebpf.ProgramOptions{LogLevel: level, LogSizeStart: logSize},
	})
	if lacksLog(err) {
		if log := w.logBySyscall(spec, level); log != nil {
			return nil, &ebpf.VerifierError{Cause: unix.EFAULT, Log: log}
		}
	}
	if err != nil {
		return nil, err
	}
	loaded := collection.DetachProgram(spec.Name)
	collection.Close()
	return loaded, nil
}

// addRejectionLog loads a rejected program again, with a log that shows how the verifier came to
// reject it, and adds that log to the result.
func (w *worker) addRejectionLog(result *programEvent, spec *ebpf.ProgramSpec, first error) error {
	result.LogLeftOut = "the loader died while it loaded the program again for its log"
	if err := w.sendFallback(result); err != nil {
		return err
	}
	level := logPath
	if w.settings.FullLog {
		level = logAll
	}
	result.LogLeftOut = ""
	lines := logOf(first)
	if reason := exceedsMemory(result.Statistics, level); reason != "" {
		result.LogLeftOut = reason
	} else if result.Code == codeTooComplex && !w.settings.FullLog {
		result.LogLeftOut = "the path to where the verifier gave up explains little: " +
			"--log-level full has it"
	} else {
		lines = w.logOfRetry(spec, level, lines)
	}
	if level == logPath && !showsRegisters(lines) && isShort(result.Statistics) {
		lines = w.logOfRetry(spec, logAll, lines)
	}
	result.addRejection(w.object, spec, lines)
	return nil
}

// logOfRetry loads a rejected program again. It returns the log of that, or, if there is none, the
// one that is given.
func (w *worker) logOfRetry(spec *ebpf.ProgramSpec, level ebpf.LogLevel, lines []string) []string {
	loaded, err := w.tryLoad(spec, level)
	if err == nil {
		loaded.Close()
	} else if log := logOf(err); len(log) > 0 {
		return log
	}
	return lines
}

func logOf(err error) []string {
	var rejection *ebpf.VerifierError
	if errors.As(err, &rejection) {
		return rejection.Log
	}
	return nil
}

// addFullLog loads a program again, with a log of every instruction, and adds that to the result.
func (w *worker) addFullLog(result *programEvent, spec *ebpf.ProgramSpec) error {
	result.LogLeftOut = "the loader died while it loaded the program again for its full log"
	if err := w.sendFallback(result); err != nil {
		return err
	}
	result.LogLeftOut = exceedsMemory(result.Statistics, logAll)
	if result.LogLeftOut != "" {
		return nil
	}
	loaded, err := w.tryLoad(spec, logAll)
	if err != nil {
		result.LogLeftOut = "the program did not load again for its full log: " + err.Error()
		return nil
	}
	defer loaded.Close()
	result.Log = compressLog(loaded.VerifierLog)
	result.LineInfo = lineInfos(spec)
	return nil
}

func errnoName(err error) string {
	var number unix.Errno
	if !errors.As(err, &number) {
		return ""
	}
	if name := unix.ErrnoName(number); name != "" {
		return name
	}
	// An error number of the kernel's own (include/linux/errno.h), which bpf(2) returns all the
	// same.
	if number == 524 {
		return "ENOTSUPP"
	}
	return ""
}
