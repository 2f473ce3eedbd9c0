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

// An object is an object file, with the settings applied, and with the maps that were created from
// it.
type object struct {
	path      string
	spec      *ebpf.CollectionSpec
	names     []string // of the programs, in the file's order
	unmet     string   // why this kernel is too old, as the object declares; empty if it is not
	set       []string // the names of --set that are variables of the object
	mapSize   []string // the names of --map-size that are maps of the object
	maps      map[string]*ebpf.Map
	mapErrors map[string]*mapError
	targets   map[string]*ebpf.Program // loaded as targets of extension programs
}

// A badObject says why no program of an object can be loaded.
type badObject struct{ code, reason string }

func (e *badObject) Error() string { return e.reason }

func badObjectf(format string, values ...any) *badObject {
	return &badObject{codeBadObject, fmt.Sprintf(format, values...)}
}

func openObject(path string, s *settings) (*object, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, badObjectf("can't be read: %v", errors.Unwrap(err))
	}
	defer file.Close()
	if err := checkHeader(file); err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, badObjectf("can't be read: %v", err)
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(patched(file, info.Size()))
	if err != nil {
		code, reason := codeBadObject, err.Error()
		switch {
		case errors.Is(err, ebpf.ErrNotSupported):
			code, reason = codeLoadFailed, "has something that the loader does not support: "+reason
		case strings.Contains(reason, "missing BTF"):
			code, reason = codeMissingBTF, "has no BTF, which describes its maps: compile it with -g"
		case strings.Contains(reason, "BTF"):
			code = codeBadBTF
		}
		return nil, &badObject{code, reason}
	}
	if len(spec.Programs) == 0 {
		return nil, badObjectf("has no program")
	}
	o := &object{
		path:      path,
		spec:      spec,
		names:     inFileOrder(file, spec.Programs),
		maps:      map[string]*ebpf.Map{},
		mapErrors: map[string]*mapError{},
		targets:   map[string]*ebpf.Program{},
	}
	if err := o.readRequirement(file); err != nil {
		return nil, err
	}
	inferTailCallTypes(spec)
	defineWeakOptions(file, spec)
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone // objects must not share maps
	}
	return o, o.applySettings(s)
}

// checkHeader checks the identification and the machine of an ELF file (System V ABI, "ELF
// header"). The errors are better than those of the library.
func checkHeader(file io.ReaderAt) error {
	head := make([]byte, 20)
	if n, err := file.ReadAt(head, 0); n < len(head) {
		if err != nil && !errors.Is(err, io.EOF) {
			return badObjectf("can't be read: %v", err)
		}
		if n == 0 {
			return badObjectf("is an empty file")
		}
		return badObjectf("is no ELF file")
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return badObjectf("is no ELF file")
	}
	switch elf.Data(head[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
	case elf.ELFDATA2MSB:
		return badObjectf("is for big-endian machines (-target bpfeb), and this kernel is little-endian")
	default:
		return badObjectf("is a damaged ELF file")
	}
	machine := elf.Machine(uint16(head[18]) | uint16(head[19])<<8)
	if machine != elf.EM_BPF && machine != elf.EM_NONE { // EM_NONE: LLVM before 4.0
		return badObjectf("is no eBPF: its machine is %s", strings.TrimPrefix(machine.String(), "EM_"))
	}
	return nil
}

func (o *object) readRequirement(file io.ReaderAt) error {
	declared, err := requirement.Read(file)
	if err != nil {
		return badObjectf("%v", err)
	}
	o.unmet, err = declared.Unmet()
	return err
}

// inFileOrder returns the programs' names in the order of their code in the file.
func inFileOrder(file io.ReaderAt, programs map[string]*ebpf.ProgramSpec) []string {
	names := slices.Sorted(maps.Keys(programs))
	parsed, err := elf.NewFile(file)
	if err != nil {
		return names
	}
	symbols, err := parsed.Symbols()
	if err != nil {
		return names
	}
	type position struct {
		section elf.SectionIndex
		offset  uint64
	}
	positions := map[string]position{}
	for _, symbol := range symbols {
		if programs[symbol.Name] != nil {
			positions[symbol.Name] = position{symbol.Section, symbol.Value}
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		if positions[a].section != positions[b].section {
			return int(positions[a].section) - int(positions[b].section)
		}
		return int(int64(positions[a].offset) - int64(positions[b].offset))
	})
	return names
}

// inferTailCallTypes gives a type to tail-called programs whose section name implies none: the type
// of a program that uses the same PROG_ARRAY, as the kernel wants all of these to have one type.
func inferTailCallTypes(spec *ebpf.CollectionSpec) {
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

// isTailCalled tells whether a PROG_ARRAY of the object holds a program.
func (o *object) isTailCalled(name string) bool {
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

// applySettings sets the variables and the sizes of maps that the object has.
func (o *object) applySettings(s *settings) error {
	for _, set := range s.Set {
		exists, err := setVariable(o.spec, set.Name, set.Value)
		if err != nil {
			return usageError(fmt.Sprintf("--set %s=%s: %v", set.Name, set.Value, err))
		}
		if exists {
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

func (o *object) contents() *contents {
	result := &contents{Unmet: o.unmet, Set: o.set, MapSize: o.mapSize}
	for _, name := range o.names {
		program := o.spec.Programs[name]
		kind := ""
		if program.Type != ebpf.UnspecifiedProgram {
			kind = programType(program.Type)
		}
		result.Programs = append(result.Programs, programInfo{
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

// createMap returns a map of the object, and whether it was created by this call.
//
// Each map is created separately, so that one which this kernel does not support affects only the
// programs that use it.
func (o *object) createMap(name string, types *btf.Cache) (*ebpf.Map, bool, *mapError) {
	if existing := o.maps[name]; existing != nil {
		return existing, false, nil
	}
	if err := o.mapErrors[name]; err != nil {
		return nil, false, err
	}
	spec := o.spec.Maps[name]
	if spec == nil {
		return nil, false, &mapError{codeBadObject, "the object has no map " + name, nil}
	}
	spec = spec.Copy()
	if holdsObjects(spec.Type) {
		// The contents are names of programs or maps, which need not be loaded for this. The
		// verifier does not look at them.
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
		if failure.code != codeNoMemory { // there may be enough memory later
			o.mapErrors[name] = failure
		}
		return nil, false, failure
	}
	created := collection.DetachMap(name)
	collection.Close()
	if spec.Type == ebpf.Arena && spec.MapExtra == 0 {
		// The verifier needs the address at which an arena is mapped. libbpf maps it, too.
		_, _ = unix.Mmap(created.FD(), 0, int(spec.MaxEntries)*os.Getpagesize(),
			unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	o.maps[name] = created
	return created, true, nil
}

// holdsObjects tells whether the values of a map are programs or other maps.
func holdsObjects(t ebpf.MapType) bool {
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
