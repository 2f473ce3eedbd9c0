// SPDX-License-Identifier: Apache-2.0

package bpftest

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/bpfmatrix/bpfmatrix/support/internal/source"
)

// An instruction in a verifier's log, in every release so far: "12: (7b) *(u64 *)(r10 -16) = r7".
var loggedInstruction = regexp.MustCompile(`^(\d+): \([0-9a-f]{2}\) `)

// describeRejection says what the verifier objects to and at which source line, then its whole log:
//
//	rejected: program on_sample of stack_sampler.bpf.o: permission denied
//	rejected: ebpf/stack_sampler.bpf.c:84: __sync_fetch_and_add(&count->samples, 1);
//	rejected: R0 invalid mem access 'map_value_or_null'
//	----- verifier log: on_sample -----
//	...
//	----- end of verifier log -----
//
// The words "rejected:" and the two rulers are for tools to find.
func describeRejection(
	path string, spec *ebpf.CollectionSpec, err error, rejection *ebpf.VerifierError,
) string {
	name := rejectedProgram(spec, err)
	var text strings.Builder
	fmt.Fprintf(&text, "rejected: program %s of %s: %v", name, filepath.Base(path), rejection.Cause)
	if len(rejection.Log) == 0 {
		text.WriteString("\nrejected: before the verifier looked at it: the kernel may not know its type")
		return text.String()
	}
	offset, found, objections := lastWords(rejection.Log)
	if program := spec.Programs[name]; program != nil && found {
		if line := source.LineOf(program.Instructions, offset); line != nil {
			fmt.Fprintf(&text, "\nrejected: %s:%d: %s",
				source.Path(line.FileName()), line.LineNumber(), strings.TrimSpace(line.Line()))
		}
	}
	for _, objection := range objections {
		fmt.Fprintf(&text, "\nrejected: %s", objection)
	}
	fmt.Fprintf(&text, "\n----- verifier log: %s -----\n", name)
	for _, line := range rejection.Log {
		fmt.Fprintln(&text, line)
	}
	text.WriteString("----- end of verifier log -----")
	return text.String()
}

// rejectedProgram returns the name of the program that err speaks of; only the error's text has it.
func rejectedProgram(spec *ebpf.CollectionSpec, err error) string {
	for name := range spec.Programs {
		if strings.Contains(err.Error(), "program "+name+": ") {
			return name
		}
	}
	return "(unknown)"
}

// lastWords returns the instruction that the verifier looked at last, if it came to any, and what it
// said right after it. In 7.3 a report of many sections follows that, after an empty line.
func lastWords(log []string) (offset asm.RawInstructionOffset, found bool, objections []string) {
	last := -1
	for i, line := range log {
		if match := loggedInstruction.FindStringSubmatch(line); match != nil {
			if number, err := strconv.ParseUint(match[1], 10, 32); err == nil {
				offset, found, last = asm.RawInstructionOffset(number), true, i
			}
		}
	}
	for _, line := range log[last+1:] {
		if line == "" || strings.HasPrefix(line, "processed ") {
			break
		}
		objections = append(objections, line)
	}
	if !found && len(objections) > 0 {
		// All of the log is about something else than an instruction: its last line sums it up.
		objections = objections[len(objections)-1:]
	}
	return offset, found, objections
}
