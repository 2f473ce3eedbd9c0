// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/elf"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

// An object is an object file that was read, with the maps that were made from it.
type object struct {
	path      string
	spec      *ebpf.CollectionSpec
	names     []string // of the programs, in the file's order
	maps      map[string]*ebpf.Map
	mapErrors map[string]*protocol.Failure
	targets   map[string]*ebpf.Program // loaded as targets of extension programs
	processed map[string]uint64        // by the verifier, of each program that was loaded before
}

func openObject(path string) (*object, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	spec, err := ebpf.LoadCollectionSpecFromReader(file)
	if err != nil {
		return nil, err
	}
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone // objects must not share maps
	}
	return &object{
		path:      path,
		spec:      spec,
		names:     inFileOrder(file, spec.Programs),
		maps:      map[string]*ebpf.Map{},
		mapErrors: map[string]*protocol.Failure{},
		targets:   map[string]*ebpf.Program{},
		processed: map[string]uint64{},
	}, nil
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

// structOpsOf returns the name of the first map for a struct of functions of this type, or nothing.
func (o *object) structOpsOf(kind string) string {
	for _, name := range slices.Sorted(maps.Keys(o.spec.Maps)) {
		m := o.spec.Maps[name]
		if value, ok := btf.As[*btf.Struct](m.Value); ok && m.Type == ebpf.StructOpsMap && value.Name == kind {
			return name
		}
	}
	return ""
}

// setVariables sets the variables that the object has, and returns their names. The error is for
// the user.
func (o *object) setVariables(values map[string]string) ([]string, error) {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		exists, err := setVariable(o.spec, name, values[name])
		if err != nil {
			return nil, fmt.Errorf("--set %s=%s: %w", name, values[name], err)
		}
		if exists {
			found = append(found, name)
		}
	}
	return found, nil
}

// setMapSizes sets the sizes of the maps that the object has, and returns their names.
func (o *object) setMapSizes(sizes map[string]uint32) []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		if m := o.spec.Maps[name]; m != nil {
			m.MaxEntries = sizes[name]
			found = append(found, name)
		}
	}
	return found
}

func (o *object) programs() []protocol.Program {
	var result []protocol.Program
	for _, name := range o.names {
		program := o.spec.Programs[name]
		kind := ""
		if program.Type != ebpf.UnspecifiedProgram {
			kind = programType(program.Type)
		}
		result = append(result, protocol.Program{
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

// makeMap returns a map of the object, and whether it was made by this call.
//
// Each map is made separately, so that one which this kernel does not support affects only the
// programs that use it.
func (o *object) makeMap(name string, types *btf.Cache) (*ebpf.Map, bool, *protocol.Failure) {
	if existing := o.maps[name]; existing != nil {
		return existing, false, nil
	}
	if failure := o.mapErrors[name]; failure != nil {
		return nil, false, failure
	}
	spec := o.spec.Maps[name]
	if spec == nil {
		return nil, false, &protocol.Failure{
			Step: protocol.StepMap, Words: []string{"the object has no map " + name},
		}
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
		failure := mapFailure(spec, name, err)
		if failure.Errno != "ENOMEM" { // there may be enough memory later
			o.mapErrors[name] = failure
		}
		return nil, false, failure
	}
	made := collection.DetachMap(name)
	collection.Close()
	o.maps[name] = made
	return made, true, nil
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
