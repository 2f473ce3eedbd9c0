// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"strings"
)

// Three things that libbpf takes, and the library that reads objects here does not:
//
//   - a section .struct_ops, where it wants .struct_ops.link; they differ in how they are attached;
//   - symbols of the kernel that are declared `extern const void`, where it wants `extern void`;
//   - options of the kernel that are `__weak`, where it wants none that may be missing (kconfig.go).
//
// mended returns an object that says the same in the other way. Where there is nothing to mend, or where
// it can't be, it is the object as it was.
func mended(object io.ReaderAt, size int64) io.ReaderAt {
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
	weak := weakSymbols(file)
	structOps := file.Section(plainStructOps) != nil && file.Section(linkedStructOps) == nil
	raw, changed := mendTypes(raw, structOps)
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
	m := &mender{whole, binary.LittleEndian.Uint64(whole[elfSectionHeaders:])}
	for i, section := range file.Sections {
		if section == types && changed {
			m.replace(i, raw)
		}
		if section.Type == elf.SHT_SYMTAB {
			m.strengthen(section, weak)
		}
	}
	if structOps {
		m.rename(file, plainStructOps, linkedStructOps)
	}
	return bytes.NewReader(m.data)
}

// weakSymbols returns the numbers of the symbols that are the kernel's options, and may be missing.
func weakSymbols(file *elf.File) []int {
	symbols, err := file.Symbols()
	if err != nil {
		return nil
	}
	var found []int
	for i, symbol := range symbols {
		if symbol.Section == elf.SHN_UNDEF && elf.ST_BIND(symbol.Info) == elf.STB_WEAK &&
			strings.HasPrefix(symbol.Name, "CONFIG_") {
			found = append(found, i+1) // the first of the file's is left out
		}
	}
	return found
}

const (
	plainStructOps  = ".struct_ops"
	linkedStructOps = ".struct_ops.link"
)

// Offsets in an ELF header and in a section's header of 64 bits (System V ABI).
const (
	elfSectionHeaders     = 0x28
	elfSectionHeaderBytes = 0x3a
	elfNamesIndex         = 0x3e
	sectionHeaderBytes    = 64
	sectionHeaderOffset   = 0x18
	symbolInfo            = 4 // in a symbol
	sectionHeaderSize     = 0x20
)

type mender struct {
	data    []byte
	headers uint64
}

func (m *mender) header(section int) []byte {
	begin := m.headers + uint64(section)*sectionHeaderBytes
	return m.data[begin : begin+sectionHeaderBytes]
}

// replace gives a section another content, at the end of the file.
func (m *mender) replace(section int, content []byte) {
	at := uint64(len(m.data))
	header := m.header(section)
	binary.LittleEndian.PutUint64(header[sectionHeaderOffset:], at)
	binary.LittleEndian.PutUint64(header[sectionHeaderSize:], uint64(len(content)))
	m.data = append(m.data, content...)
}

func (m *mender) strengthen(table *elf.Section, symbols []int) {
	for _, number := range symbols {
		at := table.Offset + uint64(number)*elf.Sym64Size + symbolInfo
		if at < uint64(len(m.data)) {
			m.data[at] = elf.ST_INFO(elf.STB_GLOBAL, elf.ST_TYPE(m.data[at]))
		}
	}
}

func (m *mender) rename(file *elf.File, from, to string) {
	index := int(binary.LittleEndian.Uint16(m.data[elfNamesIndex:]))
	names, err := file.Sections[index].Data()
	if err != nil {
		return
	}
	for i, section := range file.Sections {
		if section.Name == from {
			binary.LittleEndian.PutUint32(m.header(i), uint32(len(names)))
		}
	}
	m.replace(index, append(append(bytes.Clone(names), to...), 0))
}

// Of BTF (Documentation/bpf/btf.rst): offsets in its header, and kinds.
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
)

// mendTypes returns changed BTF, if there is anything to change.
func mendTypes(raw []byte, structOps bool) ([]byte, bool) {
	if len(raw) < btfHeaderBytes {
		return raw, false
	}
	word := func(at int) int { return int(binary.LittleEndian.Uint32(raw[at:])) }
	begin := word(btfHeaderLength) + word(btfTypesOffset)
	end := begin + word(btfTypesLength)
	texts := word(btfHeaderLength) + word(btfStringsOffset)
	// The strings come last, so that there is room for one more.
	if begin > end || end > len(raw) || texts+word(btfStringsLength) != len(raw) {
		return raw, false
	}
	name := func(at int) string {
		if at = texts + word(at); at >= len(raw) {
			return ""
		}
		text, _, _ := bytes.Cut(raw[at:], []byte{0})
		return string(text)
	}
	places := []int{-1} // of each type; the first, void, has none
	for at := begin; at < end; {
		places = append(places, at)
		if at+12 > end {
			return raw, false
		}
		at += 12 + detailBytes(word(at+4)>>24&0x1f, word(at+4)&0xffff)
	}
	kindOf := func(id int) int {
		if id <= 0 || id >= len(places) {
			return 0
		}
		return word(places[id]+4) >> 24 & 0x1f
	}
	raw, changed := bytes.Clone(raw), false
	for id := 1; id < len(places); id++ {
		at := places[id]
		count := word(at+4) & 0xffff
		if kindOf(id) != btfDatasec || at+12+12*count > end {
			continue
		}
		switch section := name(at); {
		case section == plainStructOps && structOps:
			binary.LittleEndian.PutUint32(raw[at:], uint32(word(btfStringsLength)))
			raw = append(append(raw, linkedStructOps...), 0)
			binary.LittleEndian.PutUint32(raw[btfStringsLength:], uint32(len(raw)-texts))
			changed = true
		case section == ".ksyms":
			for i := range count {
				variable := word(at + 12 + 12*i)
				if kindOf(variable) != btfVar {
					continue
				}
				kind := word(places[variable] + 8)
				if kindOf(kind) == btfConst && word(places[kind]+8) == 0 {
					binary.LittleEndian.PutUint32(raw[places[variable]+8:], 0)
					changed = true
				}
			}
		}
	}
	return raw, changed
}

// detailBytes returns how much follows the 12 bytes that each type has.
func detailBytes(kind, count int) int {
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
