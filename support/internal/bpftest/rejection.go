// SPDX-License-Identifier: Apache-2.0

package bpftest

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/bpfmatrix/bpfmatrix/support/internal/source"
	"github.com/bpfmatrix/bpfmatrix/support/internal/verifierlog"
)

// describeRejection returns the verifier's message and the source line that it is about, and then
// the whole log:
//
//	rejected: program on_sample of stack_sampler.bpf.o: permission denied
//	rejected: ebpf/stack_sampler.bpf.c:84: __sync_fetch_and_add(&count->samples, 1);
//	rejected: R0 invalid mem access 'map_value_or_null'
//	----- verifier log: on_sample -----
//	...
//	----- end of verifier log -----
//
// Tools look for "rejected:" and for the two lines around the log.
func describeRejection(
	path string, spec *ebpf.CollectionSpec, err error, rejection *ebpf.VerifierError,
) string {
	name := rejectedProgram(spec, err)
	var text strings.Builder
	fmt.Fprintf(&text, "rejected: program %s of %s: %v", name, filepath.Base(path), rejection.Cause)
	if len(rejection.Log) == 0 {
		text.WriteString("\nrejected: before the verifier ran: the kernel may not have this program type")
		return text.String()
	}
	offset, found, messages := rejectionPoint(rejection.Log)
	if program := spec.Programs[name]; program != nil && found {
		if line := source.LineOf(program.Instructions, offset); line != nil {
			fmt.Fprintf(&text, "\nrejected: %s:%d: %s",
				source.Path(line.FileName()), line.LineNumber(), strings.TrimSpace(line.Line()))
		}
	}
	for _, message := range messages {
		fmt.Fprintf(&text, "\nrejected: %s", message)
	}
	fmt.Fprintf(&text, "\n----- verifier log: %s -----\n", name)
	for _, line := range rejection.Log {
		fmt.Fprintln(&text, line)
	}
	text.WriteString("----- end of verifier log -----")
	return text.String()
}

// rejectedProgram returns the name of the rejected program. Only the text of the error has it.
func rejectedProgram(spec *ebpf.CollectionSpec, err error) string {
	for name := range spec.Programs {
		if strings.Contains(err.Error(), "program "+name+": ") {
			return name
		}
	}
	return "(unknown)"
}

// rejectionPoint returns the last instruction that the verifier visited, if it visited any, and the
// messages that follow. From 7.3 on, a longer report follows these after an empty line; it is left
// out.
func rejectionPoint(log []string) (offset asm.RawInstructionOffset, found bool, messages []string) {
	offset, index := verifierlog.LastInstruction(log)
	for _, line := range log[index+1:] {
		if line == "" || strings.HasPrefix(line, "processed ") {
			break
		}
		messages = append(messages, line)
	}
	if index < 0 && len(messages) > 0 {
		// The messages are not about an instruction: the last one is the reason.
		messages = messages[len(messages)-1:]
	}
	return offset, index >= 0, messages
}
