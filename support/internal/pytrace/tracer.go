// SPDX-License-Identifier: Apache-2.0

// Package pytrace samples the frames of CPython processes with ebpf/python_tracer.bpf.c.
package pytrace

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/bpfmatrix/bpfmatrix/support/internal/cpuclock"
)

// An Identity identifies a code object: see bytecode-lines' identity.py.
type Identity struct {
	FirstLine, Arguments, KeywordOnly, Flags uint32
	Hash                                     uint64
}

// String returns the text form that samples have.
func (i Identity) String() string {
	return fmt.Sprintf("%d:%d:%d:%d:%016x", i.FirstLine, i.Arguments, i.KeywordOnly, i.Flags, i.Hash)
}

// A Frame is a frame of a stack, as the eBPF program reports it.
type Frame struct {
	Identity Identity
	Offset   int32 // of the last instruction, in bytes; see bytecode-lines' samples.py
}

// MarshalJSON returns the form that bytecode-lines reads.
func (f Frame) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Identity string `json:"identity"`
		Offset   int32  `json:"offset"`
	}{f.Identity.String(), f.Offset})
}

// A Sample is the stack of a thread at one moment. Its JSON form is what bytecode-lines reads.
type Sample struct {
	Frames    []Frame       `json:"frames"` // the innermost first
	PID       uint32        `json:"pid"`
	TID       uint32        `json:"tid"`
	Comm      string        `json:"comm"`
	CPU       uint32        `json:"cpu"`
	Time      time.Duration `json:"time_ns"` // of CLOCK_MONOTONIC
	Truncated string        `json:"truncated,omitempty"`
}

// Reasons why the outer frames of a sample are missing.
const (
	Unreadable = "unreadable"
	TooDeep    = "too deep"
)

// Counters count the samples of the traced processes, and what became of them (enum
// python_counter).
type Counters struct {
	Seen       uint64 `json:"seen"`
	NoThread   uint64 `json:"no_thread"`
	NoFrame    uint64 `json:"no_frame"`
	Unreadable uint64 `json:"unreadable"`
	TooDeep    uint64 `json:"too_deep"`
	Lost       uint64 `json:"lost"`
}

// A Tracer is the attached eBPF program.
type Tracer struct {
	collection *ebpf.Collection
	events     *cpuclock.Events
	reader     *ringbuf.Reader
	parts      assembler
}

// New attaches the programs of a loaded python_tracer.bpf.o, which the caller closes, and samples
// each CPU once per interval.
func New(collection *ebpf.Collection, interval time.Duration) (*Tracer, error) {
	reader, err := ringbuf.NewReader(collection.Maps["stack_parts"])
	if err != nil {
		return nil, err
	}
	events, err := cpuclock.Attach(collection.Programs["on_sample"], interval)
	if err != nil {
		reader.Close()
		return nil, err
	}
	return &Tracer{collection: collection, events: events, reader: reader}, nil
}

// Close detaches the programs.
func (t *Tracer) Close() {
	t.events.Close()
	t.reader.Close()
}

// Pause stops sampling. Samples that were taken before can still be read.
func (t *Tracer) Pause() error { return t.events.Pause() }

// Add starts to trace a process.
func (t *Tracer) Add(pid int, interpreter *Interpreter) error {
	return t.collection.Maps["processes"].Put(uint32(pid), &interpreter.process)
}

// SetDeadline limits how long Next waits: see [ringbuf.Reader.SetDeadline].
func (t *Tracer) SetDeadline(deadline time.Time) { t.reader.SetDeadline(deadline) }

// Flush makes Next return the samples that are in the buffer, and then [ringbuf.ErrFlushed].
func (t *Tracer) Flush() error { return t.reader.Flush() }

// Next waits for a sample and returns it. Its errors are those of [ringbuf.Reader.Read].
func (t *Tracer) Next() (*Sample, error) {
	var record ringbuf.Record
	for {
		if err := t.reader.ReadInto(&record); err != nil {
			return nil, err
		}
		sample, err := t.parts.add(record.RawSample)
		if sample != nil || err != nil {
			return sample, err
		}
	}
}

// Counters returns the sums over all CPUs.
func (t *Tracer) Counters() (sums Counters, err error) {
	for which, sum := range []*uint64{
		&sums.Seen, &sums.NoThread, &sums.NoFrame, &sums.Unreadable, &sums.TooDeep, &sums.Lost,
	} {
		var perCPU []uint64
		if err := t.collection.Maps["python_counters"].Lookup(uint32(which), &perCPU); err != nil {
			return sums, err
		}
		for _, value := range perCPU {
			*sum += value
		}
	}
	return sums, nil
}

// partHeader is struct stack_part, up to its frames.
type partHeader struct {
	Sample, Time                       uint64
	CPU, Part, TGID, TID, Flags, Count uint32
	Comm                               [16]byte
}

const framesPerPart = 32 // FRAMES_PER_PART

// struct python_frame
type partFrame struct {
	FirstLine, Arguments, KeywordOnly, Flags uint32
	Hash                                     uint64
	Offset                                   int32
	_                                        uint32
}

// enum part_flag
const (
	partLast       = 1
	partUnreadable = 2
	partTooDeep    = 4
)

// An assembler puts samples together from their parts. The parts of one CPU arrive in order.
type assembler struct {
	partial map[uint32]*partialSample // by CPU
}

type partialSample struct {
	id     uint64
	parts  uint32 // how many have arrived
	sample Sample
}

// add adds a part, and returns the sample if this part completes it. It drops a sample of which a
// part is missing, which happens if the ring buffer was full.
func (a *assembler) add(record []byte) (*Sample, error) {
	var header partHeader
	size, err := binary.Decode(record, binary.NativeEndian, &header)
	if err != nil {
		return nil, fmt.Errorf("a part of %d bytes: %w", len(record), err)
	}
	if header.Count > framesPerPart {
		return nil, fmt.Errorf("a part of %d frames", header.Count)
	}
	frames := make([]partFrame, header.Count)
	if _, err := binary.Decode(record[size:], binary.NativeEndian, frames); err != nil {
		return nil, fmt.Errorf("a part of %d frames in %d bytes: %w", header.Count, len(record), err)
	}
	if a.partial == nil {
		a.partial = map[uint32]*partialSample{}
	}
	if header.Part == 0 {
		comm, _, _ := bytes.Cut(header.Comm[:], []byte{0})
		a.partial[header.CPU] = &partialSample{id: header.Sample, sample: Sample{
			PID: header.TGID, TID: header.TID, CPU: header.CPU, Comm: string(comm),
			Time: time.Duration(header.Time),
		}}
	}
	current := a.partial[header.CPU]
	if current == nil || current.id != header.Sample || current.parts != header.Part {
		delete(a.partial, header.CPU)
		return nil, nil
	}
	current.parts++
	for _, frame := range frames {
		current.sample.Frames = append(current.sample.Frames, Frame{
			Identity{frame.FirstLine, frame.Arguments, frame.KeywordOnly, frame.Flags, frame.Hash},
			frame.Offset,
		})
	}
	switch {
	case header.Flags&partUnreadable != 0:
		current.sample.Truncated = Unreadable
	case header.Flags&partTooDeep != 0:
		current.sample.Truncated = TooDeep
	}
	if header.Flags&partLast == 0 {
		return nil, nil
	}
	delete(a.partial, header.CPU)
	return &current.sample, nil
}
