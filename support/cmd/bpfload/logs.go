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

// A verifierLog is a log of the verifier. Beyond the first headOfLog bytes, it is kept compressed.
type verifierLog struct {
	head, tail []byte // tail is the end, if head is not all
	compressed bytes.Buffer
	compressor *gzip.Writer // nil as long as the log fits into head
}

const (
	headOfLog = 1 << 20
	// More than the statistics of a program with as many functions as the kernel allows (256).
	tailOfLog = 128 << 10
)

func (l *verifierLog) write(text []byte) {
	if l.compressor == nil {
		if len(l.head)+len(text) <= headOfLog {
			l.head = append(l.head, text...)
			return
		}
		l.startCompressor()
	}
	_, _ = l.compressor.Write(text)
	l.tail = append(l.tail, text...)
	if len(l.tail) > 2*tailOfLog {
		l.tail = append(l.tail[:0], l.tail[len(l.tail)-tailOfLog:]...)
	}
}

func (l *verifierLog) startCompressor() {
	// The fastest level: the guest is slow, and a log is so repetitive that this level compresses
	// it well.
	l.compressor, _ = gzip.NewWriterLevel(&l.compressed, gzip.BestSpeed)
	_, _ = l.compressor.Write(l.head)
	l.tail = bytes.Clone(l.head[max(0, len(l.head)-tailOfLog):])
}

func (l *verifierLog) isEmpty() bool { return l == nil || len(l.head) == 0 && l.compressor == nil }

// encoded returns the log, compressed with gzip and encoded with base64. Nothing can be written to
// the log after that.
func (l *verifierLog) encoded() string {
	if l.isEmpty() {
		return ""
	}
	if l.compressor == nil {
		l.startCompressor()
	}
	_ = l.compressor.Close()
	return base64.StdEncoding.EncodeToString(l.compressed.Bytes())
}

// statistics returns the lines of statistics that are at the end of the log.
func (l *verifierLog) statistics() string {
	if l.isEmpty() {
		return ""
	}
	end := l.tail
	if len(end) == 0 {
		end = l.head
	}
	lines := strings.Split(strings.TrimRight(string(end), "\n"), "\n")
	start := len(lines)
	for start > 0 && statisticsLine.MatchString(lines[start-1]) {
		start--
	}
	return strings.Join(lines[start:], "\n")
}

// isTooComplex tells whether the log says that the verifier gave up.
func (l *verifierLog) isTooComplex() bool {
	return tooComplex.Match(l.head) || tooComplex.Match(l.tail)
}

// showsRegisters tells whether the log has states of registers. If it has, so has its beginning.
func (l *verifierLog) showsRegisters() bool {
	return slices.ContainsFunc(bytes.Split(l.head, []byte("\n")), instructionWithRegisters.Match)
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

func isShort(statistics string) bool {
	count, known := processedIn(statistics)
	return known && count <= maxShortInstructions
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
