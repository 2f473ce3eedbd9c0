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
	// With statistics alone, the log holds what the verifier objects to, but no instructions: it costs
	// nothing to write.
	logStats = ebpf.LogLevelStats
	// The way to the instruction that is objected to.
	logPath = ebpf.LogLevelBranch | ebpf.LogLevelStats
	// Every instruction as often as it was looked at, with the registers' states.
	logAll = ebpf.LogLevelInstruction | ebpf.LogLevelStats
	// To spare a program of usual size the verifier's second look at it, which a buffer that was too
	// small takes. Statistics are short, and a buffer takes time to be cleared.
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
	w.lock(false)
	defer w.unlock()
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
	if refused := loadErr; refusesBTF(refused) && !needsOwnBTF(spec) {
		// As libbpf does: a program can do without, though not without its types of maps.
		spec = withoutBTF(spec)
		if loaded, loadErr = w.try(spec, logStats); loadErr == nil {
			result.Reason = oneLine("loaded without the object's BTF, which this kernel refuses: " +
				lastObjection(logOf(refused)))
		}
	}
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
	if w.settings.Attach && !o.tailCalled(name) {
		if err := w.attach(result, spec, loaded); err != nil {
			return err
		}
	}
	if w.settings.FullLog {
		if err := w.annotate(result, spec); err != nil {
			return err
		}
	}
	return w.event(result)
}

// attach attaches a loaded program, and detaches it.
func (w *worker) attach(result *programEvent, spec *ebpf.ProgramSpec, loaded *ebpf.Program) error {
	if err := w.event(startEvent{"start", result.Object, result.Program, "attach"}); err != nil {
		return err
	}
	// What a security hook refuses, it would refuse the others who load now as well.
	w.lock(spec.Type == ebpf.LSM || spec.AttachType == ebpf.AttachModifyReturn)
	attached, err := attach(spec, loaded)
	if err == nil {
		err = attached.Close()
	}
	w.lock(false)
	yes := err == nil
	switch {
	case errors.Is(err, errNotGeneric):
		return nil
	case errors.Is(err, os.ErrNotExist) && result.AttachTo != "":
		result.Code = codeAttachTargetMissing
		result.Reason = "it loads, but this kernel has no " + targetName(spec) + " to attach it to"
	case spec.Type == ebpf.Tracing && errors.Is(err, ebpf.ErrNotSupported),
		spec.Type == ebpf.LSM && errors.Is(err, ebpf.ErrNotSupported):
		result.Code = codeAttachFailed
		result.Reason = "it loads, but this kernel can't attach it: on this architecture it has no trampolines"
	case err != nil:
		result.Code = codeAttachFailed
		result.Reason = oneLine("it loads, and can't be attached: " + err.Error())
	}
	result.Attached = &yes
	if err != nil {
		result.Outcome, result.Errno = failed, errno(err)
	}
	return nil
}

// lock holds a lock that all children share, or alone. Only attaching needs it.
func (w *worker) lock(alone bool) {
	if !w.settings.Attach {
		return
	}
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	for unix.Flock(int(w.locked.Fd()), how) == unix.EINTR {
	}
}

func (w *worker) unlock() {
	if w.settings.Attach {
		_ = unix.Flock(int(w.locked.Fd()), unix.LOCK_UN)
	}
}

// refusesBTF tells whether the kernel did not take the object's BTF.
func refusesBTF(err error) bool {
	return err != nil && strings.Contains(err.Error(), "load BTF: ") && len(logOf(err)) > 0
}

// needsOwnBTF tells whether the kernel takes a program only along with its BTF.
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

// prepare returns a program with its maps in place, and with the one that it extends.
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
	if spec.Type == ebpf.Extension {
		target, refused, err := w.extended(spec.AttachTo)
		if refused != nil || err != nil {
			return nil, refused, err
		}
		spec.AttachTarget = target
	}
	return spec, nil, nil
}

// extended returns a loaded program that has a function, which another is to replace: the first of the
// same object, else of the others that were given.
func (w *worker) extended(function string) (*ebpf.Program, *refusal, error) {
	if function == "" {
		return nil, &refusal{code: codeAttachTargetMissing,
			reason: "its section does not name the function that it replaces: freplace/FUNCTION"}, nil
	}
	for _, path := range append([]string{w.object.path}, w.settings.Objects...) {
		o := w.object
		if path != o.path {
			var err error
			if o, err = openObject(path, &settings{}); err != nil {
				continue
			}
			w.others = append(w.others, o)
		}
		for _, name := range o.names {
			program := o.spec.Programs[name]
			if program.Type == ebpf.Extension || !hasFunction(program, function) {
				continue
			}
			loaded, refused, err := w.loadTarget(o, program)
			if err == nil && refused != nil {
				refused = &refusal{code: codeAttachTargetMissing, errno: refused.errno, reason: fmt.Sprintf(
					"%s of %s, whose function %s it replaces, does not load: %s",
					name, path, function, refused.reason)}
			}
			return loaded, refused, err
		}
	}
	return nil, &refusal{code: codeAttachTargetMissing, reason: fmt.Sprintf(
		"no program of the given objects has the function %s that it replaces: "+
			"verify it along with the object that has", function)}, nil
}

func hasFunction(program *ebpf.ProgramSpec, name string) bool {
	for i := range program.Instructions {
		if program.Instructions[i].Symbol() == name {
			return true
		}
	}
	return false
}

func (w *worker) loadTarget(o *object, program *ebpf.ProgramSpec) (*ebpf.Program, *refusal, error) {
	if loaded := o.targets[program.Name]; loaded != nil {
		return loaded, nil, nil
	}
	own := w.object
	w.object = o
	defer func() { w.object = own }()
	spec, refused, err := w.prepare(program)
	if refused != nil || err != nil {
		return nil, refused, err
	}
	loaded, err := w.try(spec, logStats)
	if err != nil {
		return nil, classify(o, spec, err), nil
	}
	o.targets[program.Name] = loaded
	return loaded, nil, nil
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
	begin := uint32(logBytes)
	if level == logStats {
		begin = 0 // the library's own choice
	}
	collection, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{
		Programs:  map[string]*ebpf.ProgramSpec{spec.Name: spec},
		Types:     w.object.spec.Types,
		ByteOrder: spec.ByteOrder,
	}, ebpf.CollectionOptions{
		Cache:    w.types,
		Programs: ebpf.ProgramOptions{LogLevel: level, LogSizeStart: begin},
	})
	if dropsLog(err) {
		if log := w.logByHand(spec, level); log != nil {
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
	} else if result.Code == codeTooComplex && !w.settings.FullLog {
		result.LogLeftOut = "the way to where it gave up explains little: --log-level full has it"
	} else if loaded, err := w.try(spec, level); err == nil {
		loaded.Close()
	} else if again := logOf(err); len(again) > 0 {
		lines = again
	}
	if level == logPath && !tellRegisters(lines) && isShort(result.Statistics) {
		if loaded, err := w.try(spec, logAll); err == nil {
			loaded.Close()
		} else if again := logOf(err); len(again) > 0 {
			lines = again
		}
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
