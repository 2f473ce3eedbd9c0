// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/bpfmatrix/bpfmatrix/support/internal/source"
	"github.com/bpfmatrix/bpfmatrix/support/internal/verifierlog"
)

var (
	// A line of statistics, which BPF_LOG_STATS adds (print_verification_stats of
	// kernel/bpf/verifier.c).
	statisticsLine = regexp.MustCompile(
		`^(?:verification time \d+ usec|stack depth |subprog \d+ \(|processed \d+ insns)`)

	verificationTime = regexp.MustCompile(`(?m)^verification time (\d+) usec`)
	stackDepths      = regexp.MustCompile(`(?m)^stack depth ([\d+]+)`)
	// From 7.3 on, each function has a line of its own.
	subprogramStack = regexp.MustCompile(`(?m)^subprog \d+ \(.* stack (\d+)`)
	processed       = regexp.MustCompile(`(?m)^processed (\d+) insns \(limit (\d+)\)` +
		`(?: max_states_per_insn (\d+) total_states (\d+) peak_states (\d+))?`)
)

// maxTailLines is how many lines of the log a rejection has at most.
const maxTailLines = 40

// readLog sets the statistics that are at the end of a log.
func (s *statistics) readLog(log string, spec *ebpf.ProgramSpec) {
	if start := strings.LastIndex(log, "\nverification time "); start >= 0 {
		log = log[start+1:]
	}
	if match := verificationTime.FindStringSubmatch(log); match != nil {
		s.VerifierUS = parseNumber(match[1])
	}
	if match := stackDepths.FindStringSubmatch(log); match != nil {
		s.StackDepth = deepestStack(spec.Instructions, strings.Split(match[1], "+"))
	} else if matches := subprogramStack.FindAllStringSubmatch(log, -1); matches != nil {
		var depths []string
		for _, match := range matches {
			depths = append(depths, match[1])
		}
		s.StackDepth = deepestStack(spec.Instructions, depths)
	}
	if match := processed.FindStringSubmatch(log); match != nil {
		s.InstructionsProcessed, s.InstructionsLimit = parseNumber(match[1]), parseNumber(match[2])
		s.MaxStatesPerInstruction = parseNumber(match[3])
		s.TotalStates, s.PeakStates = parseNumber(match[4]), parseNumber(match[5])
	}
}

// readInfo sets the statistics that the kernel has of a loaded program.
func (s *statistics) readInfo(program *ebpf.Program) {
	info, err := program.Info()
	if err != nil {
		return
	}
	if size, err := info.TranslatedSize(); err == nil && size > 0 {
		s.TranslatedBytes = pointer(uint64(size))
	}
	if size, err := info.JitedSize(); err == nil && size > 0 {
		s.JitedBytes = pointer(uint64(size))
	}
	if size, ok := info.Memlock(); ok {
		s.MemoryBytes = pointer(size)
	}
}

func pointer(value uint64) *uint64 { return &value }

// parseNumber returns nil if the text is not a number.
func parseNumber(text string) *uint64 {
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil
	}
	return &value
}

func instructionCount(spec *ebpf.ProgramSpec) *uint64 {
	return pointer(spec.Instructions.Size() / asm.InstructionSize)
}

// deepestStack returns the bytes of stack that the deepest chain of calls uses. The depths are
// those of the program's functions, in the order of their code.
func deepestStack(instructions asm.Instructions, depths []string) *uint64 {
	var names []string
	calls := map[string][]string{}
	for i := range instructions {
		instruction := &instructions[i]
		if symbol := instruction.Symbol(); symbol != "" && (i == 0 || btf.FuncMetadata(instruction) != nil ||
			isFunction(instructions, symbol)) {
			names = append(names, symbol)
		}
		if len(names) > 0 && instruction.IsFunctionReference() {
			caller := names[len(names)-1]
			calls[caller] = append(calls[caller], instruction.Reference())
		}
	}
	depthOf := map[string]uint64{}
	var largest uint64
	for i, text := range depths {
		depth := parseNumber(text)
		if depth == nil {
			return nil
		}
		largest = max(largest, *depth)
		if i < len(names) {
			depthOf[names[i]] = *depth
		}
	}
	if len(names) == 0 || len(depths) < len(names) {
		return &largest
	}
	visiting := map[string]bool{}
	var depthFrom func(string) uint64
	depthFrom = func(name string) uint64 {
		if visiting[name] {
			return 0
		}
		visiting[name] = true
		defer delete(visiting, name)
		var below uint64
		for _, callee := range calls[name] {
			below = max(below, depthFrom(callee))
		}
		return depthOf[name] + below
	}
	return pointer(depthFrom(names[0]))
}

func isFunction(instructions asm.Instructions, symbol string) bool {
	for i := range instructions {
		if instructions[i].IsFunctionReference() && instructions[i].Reference() == symbol {
			return true
		}
	}
	return false
}

// rejectionMessage returns the last message of the verifier before the statistics, in one line.
func rejectionMessage(lines []string) string {
	_, _, messages := rejectionPoint(lines)
	if len(messages) == 0 {
		return ""
	}
	return strings.TrimSpace(messages[len(messages)-1])
}

// rejectionPoint returns the number of the last instruction that the verifier visited, the index of
// the line that shows it, and the messages that follow. The index is -1 if the log shows no
// instruction. From 7.3 on, a longer report follows the messages after an empty line; it is left
// out.
func rejectionPoint(
	lines []string,
) (offset asm.RawInstructionOffset, index int, messages []string) {
	offset, index = verifierlog.LastInstruction(lines)
	for _, line := range lines[index+1:] {
		if statisticsLine.MatchString(line) || line == "" && index >= 0 {
			break
		}
		if line != "" {
			messages = append(messages, line)
		}
	}
	return offset, index, messages
}

// addRejection adds the verifier's log of a rejection, and what it tells of the cause.
func (e *programEvent) addRejection(o *object, spec *ebpf.ProgramSpec, log []string) {
	e.Log = compressLog(strings.Join(log, "\n") + "\n")
	e.LineInfo = lineInfos(spec)
	e.VerifierTail = rejectionTail(log)
	offset, index, messages := rejectionPoint(log)
	if index < 0 {
		return
	}
	if line := source.LineOf(spec.Instructions, offset); line != nil {
		e.Source = fmt.Sprintf("%s:%d", source.Path(line.FileName()), line.LineNumber())
	}
	switch {
	case e.Code == codeVerifierRejected && len(messages) > 0:
		e.Reason = oneLine(messages[len(messages)-1])
	case e.Code == codeRelocationFailed:
		if target := relocationTarget(o.spec.Types, spec.Instructions, offset); target != "" {
			e.Reason = "this kernel has no " + target
		}
	}
}

// rejectionTail returns the end of a log, without statistics: from the second source line before
// the last instruction on, and no more than maxTailLines lines.
func rejectionTail(log []string) string {
	end := len(log)
	for end > 0 && (statisticsLine.MatchString(log[end-1]) || log[end-1] == "") {
		end--
	}
	start := max(0, end-maxTailLines)
	_, index, _ := rejectionPoint(log)
	sourceLines := 0
	for i := index; i >= start; i-- {
		if !strings.HasPrefix(log[i], "; ") {
			continue
		}
		if sourceLines++; sourceLines == 2 {
			start = i
			break
		}
	}
	return strings.Join(log[start:end], "\n")
}

// lineInfos returns the source lines of a program, by its BTF.
func lineInfos(spec *ebpf.ProgramSpec) []lineInfo {
	var result []lineInfo
	for iter := spec.Instructions.Iterate(); iter.Next(); {
		if line, ok := iter.Ins.Source().(*btf.Line); ok {
			result = append(result, lineInfo{
				int(iter.Offset), source.Path(line.FileName()), line.LineNumber(),
				strings.TrimSpace(line.Line()),
			})
		}
	}
	return result
}

// An instruction with the state of the registers. Older kernels print these only at level 2, which
// shows all other paths, too; that is worth it only for short programs.
var instructionWithRegisters = regexp.MustCompile(`^\d+: \([0-9a-f]{2}\) .*; (?:R\d|frame\d)`)

const maxShortInstructions = 5000

func showsRegisters(lines []string) bool {
	return slices.ContainsFunc(lines, instructionWithRegisters.MatchString)
}

func isShort(s *statistics) bool {
	return s.InstructionsProcessed != nil && *s.InstructionsProcessed <= maxShortInstructions
}

// compressLog returns a log, compressed with gzip and encoded with base64.
func compressLog(log string) string {
	var buffer bytes.Buffer
	// The fastest level: the guest is slow, and a log is so repetitive that this level compresses
	// it well.
	writer, _ := gzip.NewWriterLevel(&buffer, gzip.BestSpeed)
	_, _ = writer.Write([]byte(log))
	_ = writer.Close()
	return base64.StdEncoding.EncodeToString(buffer.Bytes())
}

// Bytes of a log for each instruction that the verifier processed, as observed with 5.10 to 7.3.
const (
	pathBytesPerInstruction = 60
	fullBytesPerInstruction = 400
)

// exceedsMemory says why a log will probably not fit into the guest's memory; it is empty if the
// log will fit. The library holds the log three times.
func exceedsMemory(s *statistics, level ebpf.LogLevel) string {
	if s.InstructionsProcessed == nil {
		return ""
	}
	perInstruction := uint64(pathBytesPerInstruction)
	if level&ebpf.LogLevelInstruction != 0 {
		perInstruction = fullBytesPerInstruction
	}
	free := availableMemory()
	if needed := *s.InstructionsProcessed * perInstruction * 3; free > 0 && needed > free {
		return fmt.Sprintf("the log of %d processed instructions needs about %d MB of memory, "+
			"and the guest has %d MB free", *s.InstructionsProcessed, needed>>20, free>>20)
	}
	return ""
}

var memAvailable = regexp.MustCompile(`(?m)^MemAvailable: +(\d+) kB`)

func availableMemory() uint64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	if match := memAvailable.FindSubmatch(data); match != nil {
		if kib := parseNumber(string(match[1])); kib != nil {
			return *kib << 10
		}
	}
	return 0
}
