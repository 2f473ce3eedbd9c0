// SPDX-License-Identifier: Apache-2.0

// Package source finds the C source of instructions, by the line info of an object's BTF.
package source

import (
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// Path makes a name of BTF, which is relative to the directory that an object was built in, one without
// leading "../": ebpf/NAME.bpf.c of ../ebpf/NAME.bpf.c.
func Path(name string) string {
	return strings.TrimPrefix(filepath.Clean(name), "../")
}

// LineOf returns the source line of the instruction at offset, or nil. A line is noted at the first of
// the instructions that were made from it.
func LineOf(instructions asm.Instructions, offset asm.RawInstructionOffset) *btf.Line {
	var last *btf.Line
	for iter := instructions.Iterate(); iter.Next() && iter.Offset <= offset; {
		if line, ok := iter.Ins.Source().(*btf.Line); ok {
			last = line
		}
	}
	return last
}
