// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"strings"
)

// libbpf accepts three things in an object that cilium/ebpf does not:
//
//   - a section .struct_ops: the library only knows .struct_ops.link. The two differ in how the
//     struct is attached, and not in how its programs are loaded;
//   - kernel symbols that are declared `extern const void`: the library expects `extern void`;
//   - kernel options that are declared `__weak`: the library expects all options to exist
//     (kconfig.go).
//
// patched returns the object with these rewritten to what the library accepts. If there is nothing
// to rewrite, or if the file is not as expected, it returns the object unchanged.
func patched(object io.ReaderAt, size int64) io.ReaderAt {
	file, err := elf.NewFile(object)
	if err != nil || file.Class != elf.ELFCLASS64 || file.ByteOrder != binary.LittleEndian {
		return object
	}
	types := file.Section(".BTF")
	if types == nil || types.Type != elf.SHT_PROGBITS {
		return object
	}
	raw, err := types.Data()
	if err != nil {
		return object
	}
	weak := weakOptionSymbols(file)
	structOps := file.Section(plainStructOps) != nil && file.Section(linkedStructOps) == nil
	raw, changed := patchBTF(raw, structOps)
	if !changed && len(weak) == 0 {
		return object
	}
	whole := make([]byte, size)
	if _, err := object.ReadAt(whole, 0); err != nil && err != io.EOF {
		return object
	}
	if binary.LittleEndian.Uint16(whole[elfSectionHeaderBytes:]) != sectionHeaderBytes {
		return object
	}
	p := &elfPatcher{whole, binary.LittleEndian.Uint64(whole[elfSectionHeaders:])}
	for i, section := range file.Sections {
		if section == types && changed {
			p.replaceSection(i, raw)
		}
		if section.Type == elf.SHT_SYMTAB {
			p.makeGlobal(section, weak)
		}
	}
	if structOps {
		p.renameSections(file, plainStructOps, linkedStructOps)
	}
	return bytes.NewReader(p.data)
}

// weakOptionSymbols returns the symbol table's indices of the kernel's options that are weak.
func weakOptionSymbols(file *elf.File) []int {
	symbols, err := file.Symbols()
	if err != nil {
		return nil
	}
	var indices []int
	for i, symbol := range symbols {
		if symbol.Section == elf.SHN_UNDEF && elf.ST_BIND(symbol.Info) == elf.STB_WEAK &&
			strings.HasPrefix(symbol.Name, "CONFIG_") {
			indices = append(indices, i+1) // debug/elf leaves out the table's first symbol
		}
	}
	return indices
}

const (
	plainStructOps  = ".struct_ops"
	linkedStructOps = ".struct_ops.link"
)

// Offsets in an ELF header, in a section header and in a symbol, of 64-bit files (System V ABI).
const (
	elfSectionHeaders     = 0x28
	elfSectionHeaderBytes = 0x3a
	elfNamesIndex         = 0x3e
	sectionHeaderBytes    = 64
	sectionHeaderOffset   = 0x18
	sectionHeaderSize     = 0x20
	symbolInfo            = 4
)

type elfPatcher struct {
	data    []byte
	headers uint64 // the offset of the section headers
}

func (p *elfPatcher) header(section int) []byte {
	start := p.headers + uint64(section)*sectionHeaderBytes
	return p.data[start : start+sectionHeaderBytes]
}

// replaceSection gives a section new content, at the end of the file.
func (p *elfPatcher) replaceSection(section int, content []byte) {
	end := uint64(len(p.data))
	header := p.header(section)
	binary.LittleEndian.PutUint64(header[sectionHeaderOffset:], end)
	binary.LittleEndian.PutUint64(header[sectionHeaderSize:], uint64(len(content)))
	p.data = append(p.data, content...)
}

// makeGlobal makes weak symbols of a table global.
func (p *elfPatcher) makeGlobal(table *elf.Section, symbols []int) {
	for _, index := range symbols {
		at := table.Offset + uint64(index)*elf.Sym64Size + symbolInfo
		if at < uint64(len(p.data)) {
			p.data[at] = elf.ST_INFO(elf.STB_GLOBAL, elf.ST_TYPE(p.data[at]))
		}
	}
}

func (p *elfPatcher) renameSections(file *elf.File, from, to string) {
	namesIndex := int(binary.LittleEndian.Uint16(p.data[elfNamesIndex:]))
	names, err := file.Sections[namesIndex].Data()
	if err != nil {
		return
	}
	for i, section := range file.Sections {
		if section.Name == from {
			binary.LittleEndian.PutUint32(p.header(i), uint32(len(names)))
		}
	}
	p.replaceSection(namesIndex, append(append(bytes.Clone(names), to...), 0))
}

// BTF (Documentation/bpf/btf.rst): offsets in its header, kinds, and the size of what all types and
// all variables of a section begin with.
const (
	btfHeaderLength  = 4
	btfTypesOffset   = 8
	btfTypesLength   = 12
	btfStringsOffset = 16
	btfStringsLength = 20
	btfHeaderBytes   = 24

	btfInt       = 1
	btfArray     = 3
	btfStruct    = 4
	btfUnion     = 5
	btfEnum      = 6
	btfConst     = 10
	btfFuncProto = 13
	btfVar       = 14
	btfDatasec   = 15
	btfDeclTag   = 17
	btfEnum64    = 19

	btfTypeBytes       = 12
	btfSectionVarBytes = 12
)

// patchBTF returns a changed copy of BTF and true, or, if there is nothing to change, the BTF and
// false.
func patchBTF(raw []byte, structOps bool) ([]byte, bool) {
	p := newBTFPatcher(raw)
	if p == nil {
		return raw, false
	}
	changed := false
	for id := 1; id < len(p.offsets); id++ {
		at := p.offsets[id]
		count := p.word(at+4) & 0xffff
		if p.kind(id) != btfDatasec || at+btfTypeBytes+btfSectionVarBytes*count > p.end {
			continue
		}
		switch section := p.name(at); {
		case section == plainStructOps && structOps:
			p.rename(at, linkedStructOps)
			changed = true
		case section == ".ksyms":
			for i := range count {
				changed = p.dropConst(p.word(at+btfTypeBytes+btfSectionVarBytes*i)) || changed
			}
		}
	}
	return p.raw, changed
}

// A btfPatcher holds a copy of BTF, whose words are little-endian.
type btfPatcher struct {
	raw     []byte
	offsets []int // of each type; -1 for type 0, void, which is not in the file
	end     int   // of the types
	strings int   // the offset of the strings
}

// newBTFPatcher returns nil for bytes that are not BTF, or whose strings are not at the end.
func newBTFPatcher(raw []byte) *btfPatcher {
	if len(raw) < btfHeaderBytes {
		return nil
	}
	p := &btfPatcher{raw: bytes.Clone(raw), offsets: []int{-1}}
	start := p.word(btfHeaderLength) + p.word(btfTypesOffset)
	p.end = start + p.word(btfTypesLength)
	p.strings = p.word(btfHeaderLength) + p.word(btfStringsOffset)
	if start > p.end || p.end > len(raw) || p.strings+p.word(btfStringsLength) != len(raw) {
		return nil
	}
	for at := start; at < p.end; {
		p.offsets = append(p.offsets, at)
		if at+btfTypeBytes > p.end {
			return nil
		}
		info := p.word(at + 4)
		at += btfTypeBytes + typeDetailBytes(info>>24&0x1f, info&0xffff)
	}
	return p
}

func (p *btfPatcher) word(at int) int { return int(binary.LittleEndian.Uint32(p.raw[at:])) }

func (p *btfPatcher) setWord(at, value int) {
	binary.LittleEndian.PutUint32(p.raw[at:], uint32(value))
}

// kind returns the kind of a type, or 0 if there is no such type.
func (p *btfPatcher) kind(id int) int {
	if id <= 0 || id >= len(p.offsets) {
		return 0
	}
	return p.word(p.offsets[id]+4) >> 24 & 0x1f
}

// name returns the string to which the word at an offset refers.
func (p *btfPatcher) name(at int) string {
	start := p.strings + p.word(at)
	if start >= len(p.raw) {
		return ""
	}
	text, _, _ := bytes.Cut(p.raw[start:], []byte{0})
	return string(text)
}

// rename adds a string, and makes the type at an offset refer to it.
func (p *btfPatcher) rename(at int, name string) {
	p.setWord(at, p.word(btfStringsLength))
	p.raw = append(append(p.raw, name...), 0)
	p.setWord(btfStringsLength, len(p.raw)-p.strings)
}

// dropConst makes a variable of type `const void` one of type `void`, and tells whether it was one.
func (p *btfPatcher) dropConst(variable int) bool {
	if p.kind(variable) != btfVar {
		return false
	}
	at := p.offsets[variable] + 8
	id := p.word(at)
	if p.kind(id) != btfConst || p.word(p.offsets[id]+8) != 0 {
		return false
	}
	p.setWord(at, 0)
	return true
}

// typeDetailBytes returns how many bytes follow the 12 bytes with which a type begins.
func typeDetailBytes(kind, count int) int {
	switch kind {
	case btfInt, btfVar, btfDeclTag:
		return 4
	case btfArray:
		return 12
	case btfStruct, btfUnion, btfDatasec, btfEnum64:
		return 12 * count
	case btfEnum, btfFuncProto:
		return 8 * count
	}
	return 0
}
