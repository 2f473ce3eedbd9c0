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
)

var (
	// An instruction, in every release so far: "12: (7b) *(u64 *)(r10 -16) = r7".
	loggedInstruction = regexp.MustCompile(`^(\d+): \([0-9a-f]{2}\) `)
	// What BPF_LOG_STATS adds (print_verification_stats of kernel/bpf/verifier.c).
	statistic = regexp.MustCompile(
		`^(?:verification time \d+ usec|stack depth |subprog \d+ \(|processed \d+ insns)`)

	verificationTime = regexp.MustCompile(`(?m)^verification time (\d+) usec`)
	stackDepths      = regexp.MustCompile(`(?m)^stack depth ([\d+]+)`)
	// Since 7.3, in place of the depths in one line.
	subprogramStack = regexp.MustCompile(`(?m)^subprog \d+ \(.* stack (\d+)`)
	processed       = regexp.MustCompile(`(?m)^processed (\d+) insns \(limit (\d+)\)` +
		`(?: max_states_per_insn (\d+) total_states (\d+) peak_states (\d+))?`)
)

// Lines of a rejection's tail, at most.
const tailLines = 40

// readLog reads the statistics at the end of a log.
func (s *statistics) readLog(log string, spec *ebpf.ProgramSpec) {
	if begin := strings.LastIndex(log, "\nverification time "); begin >= 0 {
		log = log[begin+1:]
	}
	if match := verificationTime.FindStringSubmatch(log); match != nil {
		s.VerifierUS = number(match[1])
	}
	if match := stackDepths.FindStringSubmatch(log); match != nil {
		s.StackDepth = deepest(spec.Instructions, strings.Split(match[1], "+"))
	} else if matches := subprogramStack.FindAllStringSubmatch(log, -1); matches != nil {
		var depths []string
		for _, match := range matches {
			depths = append(depths, match[1])
		}
		s.StackDepth = deepest(spec.Instructions, depths)
	}
	if match := processed.FindStringSubmatch(log); match != nil {
		s.InstructionsProcessed, s.InstructionsLimit = number(match[1]), number(match[2])
		s.MaxStatesPerInstruction = number(match[3])
		s.TotalStates, s.PeakStates = number(match[4]), number(match[5])
	}
}

// readInfo asks the kernel about a loaded program.
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

func number(text string) *uint64 {
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil
	}
	return &value
}

func instructionCount(spec *ebpf.ProgramSpec) *uint64 {
	return pointer(spec.Instructions.Size() / asm.InstructionSize)
}

// deepest returns the depth of the deepest chain of calls, of the depths of each function. The
// kernel numbers functions in the order in which they stand in the program.
func deepest(instructions asm.Instructions, depths []string) *uint64 {
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
	known := map[string]uint64{}
	var sum, largest uint64
	for i, text := range depths {
		depth := number(text)
		if depth == nil {
			return nil
		}
		sum += *depth
		largest = max(largest, *depth)
		if i < len(names) {
			known[names[i]] = *depth
		}
	}
	if len(names) == 0 || len(depths) < len(names) {
		return &largest
	}
	visiting := map[string]bool{}
	var chain func(string) uint64
	chain = func(name string) uint64 {
		if visiting[name] {
			return 0
		}
		visiting[name] = true
		defer delete(visiting, name)
		var below uint64
		for _, callee := range calls[name] {
			below = max(below, chain(callee))
		}
		return known[name] + below
	}
	return pointer(chain(names[0]))
}

func isFunction(instructions asm.Instructions, symbol string) bool {
	for i := range instructions {
		if instructions[i].IsFunctionReference() && instructions[i].Reference() == symbol {
			return true
		}
	}
	return false
}

// lastObjection returns, in one line, what the verifier said last before its statistics.
func lastObjection(lines []string) string {
	_, _, words := lastWords(lines)
	if len(words) == 0 {
		return ""
	}
	return strings.TrimSpace(words[len(words)-1])
}

// lastWords returns the number of the instruction that the verifier looked at last, if it came to
// any, the line which that stands in, and what it said right after it. In 7.3 a report of many
// sections follows that, after an empty line.
func lastWords(lines []string) (offset asm.RawInstructionOffset, at int, words []string) {
	at = -1
	for i, line := range lines {
		if match := loggedInstruction.FindStringSubmatch(line); match != nil {
			if value, err := strconv.ParseUint(match[1], 10, 32); err == nil {
				offset, at = asm.RawInstructionOffset(value), i
			}
		}
	}
	for _, line := range lines[at+1:] {
		if statistic.MatchString(line) || line == "" && at >= 0 {
			break
		}
		if line != "" {
			words = append(words, line)
		}
	}
	return offset, at, words
}

// explain fills in what the verifier's log tells of a rejection.
func (e *programEvent) explain(o *object, spec *ebpf.ProgramSpec, log []string) {
	e.Log = packed(strings.Join(log, "\n") + "\n")
	e.LineInfo = lines(spec)
	e.VerifierTail = tail(log)
	offset, at, words := lastWords(log)
	if at < 0 {
		return
	}
	if line := source.LineOf(spec.Instructions, offset); line != nil {
		e.Source = fmt.Sprintf("%s:%d", source.Path(line.FileName()), line.LineNumber())
	}
	switch {
	case e.Code == codeVerifierRejected && len(words) > 0:
		e.Reason = oneLine(words[len(words)-1])
	case e.Code == codeRelocationFailed:
		if what := relocationAt(o.spec.Types, spec.Instructions, offset); what != "" {
			e.Reason = "this kernel has no " + what
		}
	}
}

// tail returns the end of a log that explains: from the source line of the last instructions on.
func tail(log []string) string {
	end := len(log)
	for end > 0 && (statistic.MatchString(log[end-1]) || log[end-1] == "") {
		end--
	}
	begin := max(0, end-tailLines)
	_, at, _ := lastWords(log)
	if at >= 0 {
		// Back to the second source line before it.
		sources := 0
		for i := at; i >= begin; i-- {
			if strings.HasPrefix(log[i], "; ") {
				if sources++; sources == 2 || i == begin {
					begin = i
					break
				}
			}
		}
	}
	return strings.Join(log[begin:end], "\n")
}

func lines(spec *ebpf.ProgramSpec) []lineInfo {
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

// Older kernels tell the registers of each instruction at level 2 only. That has the other paths
// too, which is worth it where they are short.
var toldRegisters = regexp.MustCompile(`^\d+: \([0-9a-f]{2}\) .*; (?:R\d|frame\d)`)

const shortPath = 5000

func tellRegisters(lines []string) bool {
	return slices.ContainsFunc(lines, toldRegisters.MatchString)
}

func isShort(s *statistics) bool {
	return s.InstructionsProcessed != nil && *s.InstructionsProcessed <= shortPath
}

// packed returns a log as base64 of gzip.
func packed(log string) string {
	var buffer bytes.Buffer
	// The fastest: a log is repetitive enough, and the guest is slow.
	writer, _ := gzip.NewWriterLevel(&buffer, gzip.BestSpeed)
	_, _ = writer.Write([]byte(log))
	_ = writer.Close()
	return base64.StdEncoding.EncodeToString(buffer.Bytes())
}

// What one instruction that was processed adds to a log, in bytes: seen with 5.10 to 7.3.
const (
	logBytesOfPath = 60
	logBytesOfAll  = 400
)

// tooLong says why a log would not fit into the guest's memory, as far as that can be told before.
// The library holds it three times.
func tooLong(s *statistics, level ebpf.LogLevel) string {
	if s.InstructionsProcessed == nil {
		return ""
	}
	each := uint64(logBytesOfPath)
	if level&ebpf.LogLevelInstruction != 0 {
		each = logBytesOfAll
	}
	free := availableMemory()
	if wanted := *s.InstructionsProcessed * each * 3; free > 0 && wanted > free {
		return fmt.Sprintf("the log of %d instructions processed needs some %d MB of memory, "+
			"and the guest has %d MB free", *s.InstructionsProcessed, wanted>>20, free>>20)
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
		if kib := number(string(match[1])); kib != nil {
			return *kib << 10
		}
	}
	return 0
}
