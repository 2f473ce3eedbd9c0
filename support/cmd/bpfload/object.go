// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/bpfmatrix/bpfmatrix/support/internal/requirement"
)

// An object is a file with its settings applied, and those of its maps that were created.
type object struct {
	path     string
	spec     *ebpf.CollectionSpec
	names    []string // of the programs, in the file's order
	declared string
	set      []string
	mapSize  []string
	maps     map[string]*ebpf.Map
	unmade   map[string]*mapError
	targets  map[string]*ebpf.Program // that others of its programs, or of another object's, replace
}

// badObject says why nothing of an object can be loaded.
type badObject struct{ code, reason string }

func (e *badObject) Error() string { return e.reason }

func bad(format string, values ...any) *badObject {
	return &badObject{codeBadObject, fmt.Sprintf(format, values...)}
}

func openObject(path string, s *settings) (*object, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, bad("can't be read: %v", errors.Unwrap(err))
	}
	defer file.Close()
	if err := looksLikeBPF(file); err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, bad("can't be read: %v", err)
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(mended(file, info.Size()))
	if err != nil {
		code, reason := codeBadObject, err.Error()
		switch {
		case errors.Is(err, ebpf.ErrNotSupported):
			code, reason = codeLoadFailed, "holds what the loader can't read: "+reason
		case strings.Contains(reason, "missing BTF"):
			code, reason = codeMissingBTF, "has no BTF, which describes its maps: compile it with -g"
		case strings.Contains(reason, "BTF"):
			code = codeBadBTF
		}
		return nil, &badObject{code, reason}
	}
	if len(spec.Programs) == 0 {
		return nil, bad("has no program")
	}
	o := &object{
		path:    path,
		spec:    spec,
		names:   inFileOrder(file, spec.Programs),
		maps:    map[string]*ebpf.Map{},
		unmade:  map[string]*mapError{},
		targets: map[string]*ebpf.Program{},
	}
	if err := o.readRequirement(file); err != nil {
		return nil, err
	}
	typeTailCalls(spec)
	giveWeakOptions(file, spec)
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone // nothing of one object is to be found by the next
	}
	return o, o.apply(s)
}

// looksLikeBPF looks at an ELF file's identification and machine, for a better reason than that
// of a parser (System V ABI, "ELF header").
func looksLikeBPF(file io.ReaderAt) error {
	head := make([]byte, 20)
	if n, err := file.ReadAt(head, 0); n < len(head) {
		if err != nil && !errors.Is(err, io.EOF) {
			return bad("can't be read: %v", err)
		}
		if n == 0 {
			return bad("is an empty file")
		}
		return bad("is no ELF file")
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return bad("is no ELF file")
	}
	switch elf.Data(head[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
	case elf.ELFDATA2MSB:
		return bad("is for big-endian machines (-target bpfeb), and this kernel is little-endian")
	default:
		return bad("is a damaged ELF file")
	}
	machine := elf.Machine(uint16(head[18]) | uint16(head[19])<<8)
	if machine != elf.EM_BPF && machine != elf.EM_NONE { // EM_NONE: LLVM before 4.0
		return bad("is no eBPF: its machine is %s", strings.TrimPrefix(machine.String(), "EM_"))
	}
	return nil
}

func (o *object) readRequirement(file io.ReaderAt) error {
	wanted, err := requirement.Read(file)
	if err != nil {
		return bad("%v", err)
	}
	if os.Getenv(requirement.IgnoreVariable) == "1" {
		return nil
	}
	release, err := requirement.KernelRelease()
	if err != nil {
		return err
	}
	o.declared, err = wanted.UnmetBy(release)
	return err
}

// inFileOrder returns the programs' names, sorted as their symbols stand in the file.
func inFileOrder(file io.ReaderAt, programs map[string]*ebpf.ProgramSpec) []string {
	names := slices.Sorted(maps.Keys(programs))
	read, err := elf.NewFile(file)
	if err != nil {
		return names
	}
	symbols, err := read.Symbols()
	if err != nil {
		return names
	}
	type place struct {
		section elf.SectionIndex
		offset  uint64
	}
	places := map[string]place{}
	for _, symbol := range symbols {
		if programs[symbol.Name] != nil {
			places[symbol.Name] = place{symbol.Section, symbol.Value}
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		if places[a].section != places[b].section {
			return int(places[a].section) - int(places[b].section)
		}
		return int(int64(places[a].offset) - int64(places[b].offset))
	})
	return names
}

// typeTailCalls gives programs that only tail calls reach, and whose section tells no type, the type
// of a program that uses the map which they are in: the kernel wants all of them to be of one type.
func typeTailCalls(spec *ebpf.CollectionSpec) {
	for _, program := range spec.Programs {
		if program.Type == ebpf.UnspecifiedProgram {
			continue
		}
		for _, instruction := range program.Instructions {
			used := spec.Maps[instruction.Reference()]
			if !instruction.IsLoadFromMap() || used == nil || used.Type != ebpf.ProgramArray {
				continue
			}
			for _, entry := range used.Contents {
				name, _ := entry.Value.(string)
				called := spec.Programs[name]
				if called != nil && called.Type == ebpf.UnspecifiedProgram {
					called.Type, called.AttachType = program.Type, program.AttachType
					called.Flags, called.AttachTo = program.Flags, program.AttachTo
				}
			}
		}
	}
}

// tailCalled tells whether a map that holds programs names this one.
func (o *object) tailCalled(name string) bool {
	for _, m := range o.spec.Maps {
		if m.Type != ebpf.ProgramArray {
			continue
		}
		for _, entry := range m.Contents {
			if entry.Value == name {
				return true
			}
		}
	}
	return false
}

// apply sets the variables and sizes that the object has.
func (o *object) apply(s *settings) error {
	for _, set := range s.Set {
		done, err := setVariable(o.spec, set.Name, set.Value)
		if err != nil {
			return usageError(fmt.Sprintf("--set %s=%s: %v", set.Name, set.Value, err))
		}
		if done {
			o.set = append(o.set, set.Name)
		}
	}
	for _, size := range s.MapSize {
		if m := o.spec.Maps[size.Name]; m != nil {
			entries, _ := strconv.ParseUint(size.Value, 0, 32)
			m.MaxEntries = uint32(entries)
			o.mapSize = append(o.mapSize, size.Name)
		}
	}
	return nil
}

func (o *object) found() *found {
	result := &found{Declared: o.declared, Set: o.set, MapSize: o.mapSize}
	for _, name := range o.names {
		program := o.spec.Programs[name]
		kind := ""
		if program.Type != ebpf.UnspecifiedProgram {
			kind = programType(program.Type)
		}
		result.Programs = append(result.Programs, foundProgram{
			Name:     name,
			Section:  program.SectionName,
			Type:     kind,
			AttachTo: program.AttachTo,
			Optional: strings.HasPrefix(program.SectionName, "?"),
		})
	}
	return result
}

func (o *object) close() {
	for _, m := range o.maps {
		m.Close()
	}
	for _, p := range o.targets {
		p.Close()
	}
}

// A mapError says why a map could not be created.
type mapError struct {
	code, reason string
	cause        error
}

func (e *mapError) Error() string { return e.reason }

// makeMap returns a map of the object, created if it was not. The bool says whether it is new.
//
// It is created by itself: one that this kernel lacks keeps only those programs from loading that use
// it.
func (o *object) makeMap(name string, types *btf.Cache) (*ebpf.Map, bool, *mapError) {
	if made := o.maps[name]; made != nil {
		return made, false, nil
	}
	if err := o.unmade[name]; err != nil {
		return nil, false, err
	}
	spec := o.spec.Maps[name]
	if spec == nil {
		return nil, false, &mapError{codeBadObject, "the object has no map " + name, nil}
	}
	spec = spec.Copy()
	if holdsOthers(spec.Type) {
		// Programs and maps, by name. The verifier does not look at what is in it.
		spec.Contents = nil
	}
	collection, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{
		Maps:      map[string]*ebpf.MapSpec{name: spec},
		Variables: o.variablesOf(name),
		Types:     o.spec.Types,
		ByteOrder: o.spec.ByteOrder,
	}, ebpf.CollectionOptions{Cache: types})
	if err != nil {
		failure := classifyMap(spec, name, err)
		if failure.code != codeNoMemory { // there may be some later
			o.unmade[name] = failure
		}
		return nil, false, failure
	}
	made := collection.DetachMap(name)
	collection.Close()
	if spec.Type == ebpf.Arena && spec.MapExtra == 0 {
		// The verifier wants to know where it is in a process's memory, as libbpf would have it be.
		_, _ = unix.Mmap(made.FD(), 0, int(spec.MaxEntries)*os.Getpagesize(),
			unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	o.maps[name] = made
	return made, true, nil
}

func holdsOthers(t ebpf.MapType) bool {
	switch t {
	case ebpf.ProgramArray, ebpf.ArrayOfMaps, ebpf.HashOfMaps:
		return true
	}
	return false
}

func (o *object) variablesOf(section string) map[string]*ebpf.VariableSpec {
	result := map[string]*ebpf.VariableSpec{}
	for name, variable := range o.spec.Variables {
		if variable.SectionName == section {
			result[name] = variable
		}
	}
	return result
}
