// SPDX-License-Identifier: Apache-2.0

// Package source finds the C source lines of instructions, by the line info of an object's BTF.
package source

import (
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// Path returns a file name of BTF without its leading "../": ebpf/NAME.bpf.c for
// ../ebpf/NAME.bpf.c. Such names are relative to the directory in which the object was built.
func Path(name string) string {
	return strings.TrimPrefix(filepath.Clean(name), "../")
}

// LineOf returns the source line of the instruction at offset, or nil. BTF has a line only at the
// first of the instructions that the compiler made from it.
func LineOf(instructions asm.Instructions, offset asm.RawInstructionOffset) *btf.Line {
	var last *btf.Line
	for iter := instructions.Iterate(); iter.Next() && iter.Offset <= offset; {
		if line, ok := iter.Ins.Source().(*btf.Line); ok {
			last = line
		}
	}
	return last
}
