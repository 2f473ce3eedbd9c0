// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
	"github.com/bpfmatrix/bpfmatrix/support/internal/source"
)

// logLevels are the levels of the requests, as the kernel and the library have them.
var logLevels = map[protocol.LogLevel]ebpf.LogLevel{
	protocol.LogStats: ebpf.LogLevelStats,
	protocol.LogPath:  ebpf.LogLevelBranch | ebpf.LogLevelStats,
	protocol.LogAll:   ebpf.LogLevelInstruction | ebpf.LogLevelStats,
}

// Bytes of a log for each instruction that the verifier processes, and a few more than observed with
// 5.10 to 7.3: if the buffer is too small, the verifier runs a second time, which takes minutes for a
// large program. What is not written to is not in memory.
var bytesPerInstruction = map[protocol.LogLevel]uint64{protocol.LogPath: 100, protocol.LogAll: 600}

// logBytes is large enough for the log of most programs. For statistics alone the library's smaller
// default serves.
const logBytes = 4 << 20

// processed is in the last line of a log that has statistics.
var processed = regexp.MustCompile(`^processed (\d+) insns`)

// logSize returns how large the buffer for a log of this level is to be.
func (o *object) logSize(program string, level protocol.LogLevel) uint32 {
	perInstruction, large := bytesPerInstruction[level]
	if !large {
		return 0 // the library's default
	}
	return uint32(min(max(logBytes, o.processed[program]*perInstruction), math.MaxUint32>>2))
}

// noteProcessed keeps how many instructions the verifier processed of a program, according to the
// statistics in its log.
func (o *object) noteProcessed(program string, log []string) {
	for _, part := range log[max(0, len(log)-1):] {
		part = strings.TrimRight(part, "\n")
		if match := processed.FindStringSubmatch(part[strings.LastIndexByte(part, '\n')+1:]); match != nil {
			o.processed[program], _ = strconv.ParseUint(match[1], 10, 32)
		}
	}
}

// load loads a program, and attaches it if the request says so. Both are undone before it returns
// the result and the lines of the verifier's log.
func (w *worker) load(r protocol.Request) (*protocol.Result, []string, error) {
	program := w.object.spec.Programs[r.Program]
	if program.Type == ebpf.UnspecifiedProgram {
		return &protocol.Result{Failure: unknownSection(program)}, nil, nil
	}
	spec, failure, err := w.prepare(program)
	if err != nil || failure != nil {
		return &protocol.Result{Failure: failure}, nil, err
	}
	started := time.Now()
	loaded, err := w.tryLoad(spec, r.Log)
	result := &protocol.Result{
		Seconds:      time.Since(started).Seconds(),
		Instructions: instructionCount(spec),
		Calls:        calls(spec.Instructions),
	}
	if r.Log == protocol.LogPath || r.Log == protocol.LogAll {
		result.LineInfo = lineInfos(spec)
	}
	if err != nil {
		w.object.noteProcessed(spec.Name, logOf(err))
		result.Failure = w.loadFailure(spec, err)
		return result, logOf(err), nil
	}
	defer loaded.Close()
	w.object.noteProcessed(spec.Name, []string{loaded.VerifierLog})
	result.Loaded = true
	addInfo(result, loaded)
	if r.Request == protocol.Attach && !w.object.isTailCalled(r.Program) {
		w.attach(result, spec, loaded)
	}
	return result, []string{loaded.VerifierLog}, nil
}

// attach attaches a loaded program, and detaches it.
func (w *worker) attach(result *protocol.Result, spec *ebpf.ProgramSpec, loaded *ebpf.Program) {
	attached, err := w.attachTo(spec, loaded)
	if err == nil {
		err = attached.Close()
	}
	if errors.Is(err, errNoGenericTarget) {
		return
	}
	isAttached := err == nil
	result.Attached = &isAttached
	if err != nil {
		result.Failure = attachFailure(spec, err)
	}
}

// prepare makes the maps of a program and, if it is an extension, loads the program that it
// extends. It returns a copy of the program that refers to them.
func (w *worker) prepare(program *ebpf.ProgramSpec) (*ebpf.ProgramSpec, *protocol.Failure, error) {
	spec := program.Copy()
	for i := range spec.Instructions {
		instruction := &spec.Instructions[i]
		if !instruction.IsLoadFromMap() || instruction.Reference() == "" {
			continue
		}
		m, isNew, failure := w.object.makeMap(instruction.Reference(), w.types)
		if failure != nil {
			return nil, failure, nil
		}
		if isNew && !w.isTarget {
			err := w.send(&protocol.Reply{Map: describeMap(instruction.Reference(), m)}, nil)
			if err != nil {
				return nil, nil, err
			}
		}
		if err := instruction.AssociateMap(m); err != nil {
			return nil, failed(protocol.StepRelocate, err), nil
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
func (w *worker) loadExtensionTarget(function string) (*ebpf.Program, *protocol.Failure, error) {
	missing := &protocol.Failure{Step: protocol.StepTarget,
		Missing: &protocol.Missing{Kind: protocol.MissingTargetProgram, Name: function}}
	if function == "" {
		missing.Words = []string{"the section does not name the function that it replaces"}
		return nil, missing, nil
	}
	for _, path := range append([]string{w.object.path}, w.objects...) {
		o := w.object
		if path != o.path {
			if o = w.openTarget(path); o == nil {
				continue
			}
		}
		for _, name := range o.names {
			program := o.spec.Programs[name]
			if program.Type == ebpf.Extension || !hasFunction(program, function) {
				continue
			}
			loaded, failure, err := w.loadTarget(o, program)
			if failure != nil {
				missing.Errno = failure.Errno
				missing.Words = append(failure.Words, name+" of "+path+" has the function "+function+
					", which is to be replaced, and does not load")
				failure = missing
			}
			return loaded, failure, err
		}
	}
	missing.Words = []string{"no program of the given objects has the function " + function}
	return nil, missing, nil
}

// openTarget opens an object in which the target of an extension may be, once. It returns nil if the
// library can't read the object.
func (w *worker) openTarget(path string) *object {
	for _, o := range w.targetObjects {
		if o.path == path {
			return o
		}
	}
	o, err := openObject(path)
	if err != nil {
		return nil
	}
	w.targetObjects = append(w.targetObjects, o)
	return o
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
) (*ebpf.Program, *protocol.Failure, error) {
	if loaded := o.targets[program.Name]; loaded != nil {
		return loaded, nil, nil
	}
	own := w.object
	w.object, w.isTarget = o, o != own
	defer func() { w.object, w.isTarget = own, false }()
	spec, failure, err := w.prepare(program)
	if failure != nil || err != nil {
		return nil, failure, err
	}
	loaded, err := w.tryLoad(spec, protocol.LogStats)
	if err != nil {
		return nil, w.loadFailure(spec, err), nil
	}
	o.targets[program.Name] = loaded
	return loaded, nil, nil
}

// tryLoad loads a program once, with a log of a level. Without a level, the library chooses it.
func (w *worker) tryLoad(spec *ebpf.ProgramSpec, level protocol.LogLevel) (*ebpf.Program, error) {
	options := ebpf.ProgramOptions{
		LogLevel: logLevels[level], LogSizeStart: w.object.logSize(spec.Name, level),
	}
	collection, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{
		Programs:  map[string]*ebpf.ProgramSpec{spec.Name: spec},
		Types:     w.object.spec.Types,
		ByteOrder: spec.ByteOrder,
	}, ebpf.CollectionOptions{Cache: w.types, Programs: options})
	if err != nil {
		return nil, err
	}
	loaded := collection.DetachProgram(spec.Name)
	collection.Close()
	return loaded, nil
}

// describeMap returns what is reported of a map that was made.
func describeMap(name string, m *ebpf.Map) *protocol.Map {
	described := &protocol.Map{Name: name, Type: mapType(m.Type()), Entries: m.MaxEntries()}
	if info, err := m.Info(); err == nil {
		if bytes, ok := info.Memlock(); ok {
			described.MemoryBytes = &bytes
		}
	}
	return described
}

// addInfo adds the sizes that the kernel tells of a loaded program.
func addInfo(result *protocol.Result, program *ebpf.Program) {
	info, err := program.Info()
	if err != nil {
		return
	}
	if size, err := info.TranslatedSize(); err == nil && size > 0 {
		result.TranslatedBytes = pointer(uint64(size))
	}
	if size, err := info.JitedSize(); err == nil && size > 0 {
		result.JitedBytes = pointer(uint64(size))
	}
	if size, ok := info.Memlock(); ok {
		result.MemoryBytes = pointer(size)
	}
}

func pointer(value uint64) *uint64 { return &value }

func instructionCount(spec *ebpf.ProgramSpec) *uint64 {
	return pointer(spec.Instructions.Size() / asm.InstructionSize)
}

// calls returns, for each function of a program in the order of its code, the numbers of the
// functions that it calls or takes the address of. It returns nil for one function.
func calls(instructions asm.Instructions) [][]int {
	referred := map[string]bool{}
	for i := range instructions {
		if instructions[i].IsFunctionReference() {
			referred[instructions[i].Reference()] = true
		}
	}
	numbers := map[string]int{}
	var callees [][]string
	for i := range instructions {
		instruction := &instructions[i]
		symbol := instruction.Symbol()
		if symbol != "" && (i == 0 || referred[symbol] || btf.FuncMetadata(instruction) != nil) {
			numbers[symbol] = len(callees)
			callees = append(callees, nil)
		}
		if last := len(callees) - 1; last >= 0 && instruction.IsFunctionReference() {
			callees[last] = append(callees[last], instruction.Reference())
		}
	}
	if len(callees) < 2 {
		return nil
	}
	result := make([][]int, len(callees))
	for caller, names := range callees {
		result[caller] = []int{}
		for _, name := range names {
			if number, known := numbers[name]; known {
				result[caller] = append(result[caller], number)
			}
		}
	}
	return result
}

// lineInfos returns the source lines of a program, by its BTF.
func lineInfos(spec *ebpf.ProgramSpec) []protocol.Line {
	var result []protocol.Line
	for iter := spec.Instructions.Iterate(); iter.Next(); {
		if line, ok := iter.Ins.Source().(*btf.Line); ok {
			result = append(result, protocol.Line{
				Insn: int(iter.Offset), File: source.Path(line.FileName()), Line: line.LineNumber(),
				Text: strings.TrimSpace(line.Line()),
			})
		}
	}
	return result
}
