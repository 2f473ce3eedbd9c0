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

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
)

var (
	// A line of statistics, which BPF_LOG_STATS adds (print_verification_stats of
	// kernel/bpf/verifier.c).
	statisticsLine = regexp.MustCompile(
		`^(?:verification time \d+ usec|stack depth |subprog \d+ \(|processed \d+ insns)`)
	processed = regexp.MustCompile(`(?m)^processed (\d+) insns`)
	// The verifier gave up: do_check, is_state_visited and push_stack of kernel/bpf/verifier.c.
	tooComplex = regexp.MustCompile(
		`BPF program is too large|The sequence of \d+ jumps is too complex|program is too complex`)
	// An instruction with the state of the registers. Older kernels print these only at level 2,
	// which shows all other paths, too; that is worth it only for short programs.
	instructionWithRegisters = regexp.MustCompile(`^\d+: \([0-9a-f]{2}\) .*; (?:R\d|frame\d)`)
)

const maxShortInstructions = 5000

// statisticsOf returns the lines of statistics that are at the end of a log.
func statisticsOf(log string) string {
	lines := strings.Split(strings.TrimRight(log, "\n"), "\n")
	start := len(lines)
	for start > 0 && statisticsLine.MatchString(lines[start-1]) {
		start--
	}
	return strings.Join(lines[start:], "\n")
}

// processedIn returns how many instructions the verifier processed, according to its statistics.
func processedIn(statistics string) (count uint64, known bool) {
	match := processed.FindStringSubmatch(statistics)
	if match == nil {
		return 0, false
	}
	count, err := strconv.ParseUint(match[1], 10, 64)
	return count, err == nil
}

func showsRegisters(log string) bool {
	return slices.ContainsFunc(strings.Split(log, "\n"), instructionWithRegisters.MatchString)
}

func isShort(statistics string) bool {
	count, known := processedIn(statistics)
	return known && count <= maxShortInstructions
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
// log will fit. A loader holds the log up to three times.
func exceedsMemory(statistics string, level protocol.LogLevel) string {
	count, known := processedIn(statistics)
	if !known {
		return ""
	}
	perInstruction := uint64(pathBytesPerInstruction)
	if level == protocol.LogAll {
		perInstruction = fullBytesPerInstruction
	}
	free := availableMemory()
	if needed := count * perInstruction * 3; free > 0 && needed > free {
		return fmt.Sprintf("the log of %d processed instructions needs about %d MB of memory, "+
			"and the guest has %d MB free", count, needed>>20, free>>20)
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
		if kib, err := strconv.ParseUint(string(match[1]), 10, 64); err == nil {
			return kib << 10
		}
	}
	return 0
}
