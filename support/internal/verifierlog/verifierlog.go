// SPDX-License-Identifier: Apache-2.0

// Package verifierlog finds instructions in the verifier's log.
package verifierlog

import (
	"regexp"
	"strconv"

	"github.com/cilium/ebpf/asm"
)

// An instruction, in every release so far: "12: (7b) *(u64 *)(r10 -16) = r7".
var instruction = regexp.MustCompile(`^(\d+): \([0-9a-f]{2}\) `)

// LastInstruction returns the number of the last instruction in a log, and the index of the line
// that shows it. The index is -1 if the log shows no instruction.
func LastInstruction(lines []string) (offset asm.RawInstructionOffset, index int) {
	index = -1
	for i, line := range lines {
		if match := instruction.FindStringSubmatch(line); match != nil {
			if number, err := strconv.ParseUint(match[1], 10, 32); err == nil {
				offset, index = asm.RawInstructionOffset(number), i
			}
		}
	}
	return offset, index
}
