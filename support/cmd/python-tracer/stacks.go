// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"encoding/hex"
	"errors"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/bpfmatrix/bpfmatrix/support/internal/pytrace"
)

// countedStack is a stack, without what differs between its samples.
type countedStack struct {
	parts     []*pytrace.Part
	count     int
	pid, tid  uint32
	comm      string
	process   *pytrace.Process
	truncated string
}

// A stackCounter counts how often each distinct stack was sampled. The stacks are in the order of
// their first samples.
type stackCounter struct {
	parts     map[*pytrace.Part]uint32
	processes map[*pytrace.Process]uint32
	indices   map[string]int
	counted   []countedStack
	process   func(pid uint32) *pytrace.Process // nil if it is not known
}

func newStackCounter() *stackCounter {
	return &stackCounter{
		parts: map[*pytrace.Part]uint32{}, processes: map[*pytrace.Process]uint32{},
		indices: map[string]int{}, process: func(uint32) *pytrace.Process { return nil },
	}
}

// collect reads samples until the tracer is flushed.
func (s *stackCounter) collect(tracer *pytrace.Tracer) error {
	for {
		sample, err := tracer.Next()
		if errors.Is(err, ringbuf.ErrFlushed) {
			return nil
		} else if err != nil {
			return err
		}
		s.add(sample)
	}
}

// add counts a sample. Equal parts of stacks are the same, so that not every frame is looked at.
func (s *stackCounter) add(sample *pytrace.Sample) {
	if len(sample.Parts) == 0 {
		return // the thread ran no Python code
	}
	process := s.process(sample.PID)
	number, known := s.processes[process]
	if !known {
		number = uint32(len(s.processes))
		s.processes[process] = number
	}
	key := make([]byte, 0, 20+len(sample.Parts)*4)
	key = binary.NativeEndian.AppendUint32(key, number)
	key = binary.NativeEndian.AppendUint32(key, sample.PID)
	key = binary.NativeEndian.AppendUint32(key, sample.TID)
	for _, part := range sample.Parts {
		number, known := s.parts[part]
		if !known {
			number = uint32(len(s.parts))
			s.parts[part] = number
		}
		key = binary.NativeEndian.AppendUint32(key, number)
	}
	key = append(key, sample.Truncated...)
	index, seen := s.indices[string(key)]
	if !seen {
		index = len(s.counted)
		s.indices[string(key)] = index
		s.counted = append(s.counted, countedStack{
			parts: sample.Parts, pid: sample.PID, tid: sample.TID, comm: sample.Comm,
			process: process, truncated: sample.Truncated,
		})
	}
	s.counted[index].count++
}

// A stackPrinter prints stacks, and before each what it refers to.
type stackPrinter struct {
	lines *printer
	codes map[*pytrace.Code]int
	parts map[*pytrace.Part]int
}

func newStackPrinter(lines *printer) *stackPrinter {
	return &stackPrinter{lines, map[*pytrace.Code]int{}, map[*pytrace.Part]int{}}
}

// codeLine, partLine, stackLine and lostLine are described in the documentation of this command.
type (
	codeLine struct {
		Number   int    `json:"number"`
		Identity string `json:"identity"`
		File     string `json:"file,omitempty"`
		Function string `json:"function,omitempty"`
		Table    string `json:"table,omitempty"`
	}
	partLine struct {
		Number int      `json:"number"`
		Frames [][2]int `json:"frames"`
	}
	stackLine struct {
		Parts     []int  `json:"parts"`
		Count     int    `json:"count"`
		PID       uint32 `json:"pid"`
		TID       uint32 `json:"tid"`
		Comm      string `json:"comm"`
		Process   string `json:"process"`
		Truncated string `json:"truncated,omitempty"`
	}
	lostLine struct {
		PID     uint32 `json:"pid"`
		Process string `json:"process"`
		Code    int    `json:"code"`
		Offset  int32  `json:"offset"`
		Count   uint64 `json:"count"`
	}
)

func (p *stackPrinter) print(stacks []countedStack) {
	for _, stack := range stacks {
		line := stackLine{
			Count: stack.count, PID: stack.pid, TID: stack.tid, Comm: stack.comm,
			Process:   nameOf(stack.process),
			Truncated: stack.truncated,
		}
		for _, part := range stack.parts {
			line.Parts = append(line.Parts, p.part(part))
		}
		p.lines.print(map[string]stackLine{"stack": line})
	}
}

// part returns the number of a part, which it prints if that has not been done.
func (p *stackPrinter) part(part *pytrace.Part) int {
	number, printed := p.parts[part]
	if !printed {
		number = len(p.parts) + 1
		p.parts[part] = number
		line := partLine{Number: number}
		for _, frame := range part.Frames {
			line.Frames = append(line.Frames, [2]int{p.code(frame.Code), int(frame.Offset)})
		}
		p.lines.print(map[string]partLine{"part": line})
	}
	return number
}

// code returns the number of a code object, which it prints if that has not been done.
func (p *stackPrinter) code(code *pytrace.Code) int {
	number, printed := p.codes[code]
	if !printed {
		number = len(p.codes) + 1
		p.codes[code] = number
		p.lines.print(map[string]codeLine{"code": {
			number, code.Identity.String(), code.File, code.Name, hex.EncodeToString(code.Table),
		}})
	}
	return number
}

// nameOf returns the name of a process; empty if it is not known. Names are final once
// [pytrace.Family.End] was called.
func nameOf(process *pytrace.Process) string {
	if process == nil {
		return ""
	}
	return process.Name
}

// printLost prints the samples of which the tracer knows only the innermost frame. `process` returns a
// process by its id.
func (p *stackPrinter) printLost(
	lost []pytrace.LostSamples, process func(pid uint32) *pytrace.Process,
) {
	for _, samples := range lost {
		if samples.Innermost.Code == nil {
			continue // not even that is known
		}
		p.lines.print(map[string]lostLine{"lost": {
			samples.PID, nameOf(process(samples.PID)), p.code(samples.Innermost.Code), samples.Innermost.Offset,
			samples.Count,
		}})
	}
}
