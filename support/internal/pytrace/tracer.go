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

// An Identity names a code object: see support/pylines/identity.py.
type Identity struct {
	FirstLine, Arguments, KeywordOnly, Flags uint32
	Hash                                     uint64
}

// String returns the form that samples have it in.
func (i Identity) String() string {
	return fmt.Sprintf("%d:%d:%d:%d:%016x", i.FirstLine, i.Arguments, i.KeywordOnly, i.Flags, i.Hash)
}

// A Frame is what the program tells of a frame.
type Frame struct {
	Identity Identity
	Offset   int32 // of the last instruction, in bytes
}

// MarshalJSON writes it as pylines reads it.
func (f Frame) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Identity string `json:"identity"`
		Offset   int32  `json:"offset"`
	}{f.Identity.String(), f.Offset})
}

// A Sample is a thread's stack at one moment. As JSON, it is what pylines reads.
type Sample struct {
	Frames    []Frame       `json:"frames"` // the innermost first
	PID       uint32        `json:"pid"`
	TID       uint32        `json:"tid"`
	Comm      string        `json:"comm"`
	CPU       uint32        `json:"cpu"`
	Time      time.Duration `json:"time_ns"` // of CLOCK_MONOTONIC
	Truncated string        `json:"truncated,omitempty"`
}

// Why outer frames of a sample are missing.
const (
	Unreadable = "unreadable"
	TooDeep    = "too deep"
)

// Counters say what became of the samples of the processes that are traced.
type Counters struct {
	Seen       uint64 `json:"seen"`
	NoThread   uint64 `json:"no_thread"`
	NoFrame    uint64 `json:"no_frame"`
	Unreadable uint64 `json:"unreadable"`
	TooDeep    uint64 `json:"too_deep"`
	Lost       uint64 `json:"lost"`
}

// A Tracer is the program, attached.
type Tracer struct {
	collection *ebpf.Collection
	events     *cpuclock.Events
	reader     *ringbuf.Reader
	parts      assembler
}

// New attaches the programs of a loaded python_tracer.bpf.o, which it does not close, so that each
// CPU is sampled every so often.
func New(collection *ebpf.Collection, every time.Duration) (*Tracer, error) {
	reader, err := ringbuf.NewReader(collection.Maps["stack_parts"])
	if err != nil {
		return nil, err
	}
	events, err := cpuclock.Attach(collection.Programs["on_sample"], every)
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

// Pause stops sampling. What was sampled can still be read.
func (t *Tracer) Pause() error { return t.events.Pause() }

// Add begins to trace a process.
func (t *Tracer) Add(pid int, interpreter *Interpreter) error {
	return t.collection.Maps["processes"].Put(uint32(pid), &interpreter.process)
}

// SetDeadline is that of [ringbuf.Reader].
func (t *Tracer) SetDeadline(deadline time.Time) { t.reader.SetDeadline(deadline) }

// Flush has Next return what is there, then [ringbuf.ErrFlushed].
func (t *Tracer) Flush() error { return t.reader.Flush() }

// Next waits for a sample, as [ringbuf.Reader.Read] does, whose errors it returns.
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
	// enum python_counter
	for which, sum := range []*uint64{
		&sums.Seen, &sums.NoThread, &sums.NoFrame, &sums.Unreadable, &sums.TooDeep, &sums.Lost,
	} {
		var each []uint64
		if err := t.collection.Maps["python_counters"].Lookup(uint32(which), &each); err != nil {
			return sums, err
		}
		for _, value := range each {
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

// An assembler makes samples of their parts. Those of one CPU come in order.
type assembler struct {
	open map[uint32]*opened // by CPU
}

type opened struct {
	id     uint64
	parts  uint32
	sample Sample
}

// add takes a part, and returns the sample that it completes, if any. A sample of which a part is
// missing, as there was no room for it, is dropped.
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
	if a.open == nil {
		a.open = map[uint32]*opened{}
	}
	if header.Part == 0 {
		comm, _, _ := bytes.Cut(header.Comm[:], []byte{0})
		a.open[header.CPU] = &opened{id: header.Sample, sample: Sample{
			PID: header.TGID, TID: header.TID, CPU: header.CPU, Comm: string(comm),
			Time: time.Duration(header.Time),
		}}
	}
	is := a.open[header.CPU]
	if is == nil || is.id != header.Sample || is.parts != header.Part {
		delete(a.open, header.CPU)
		return nil, nil
	}
	is.parts++
	for _, frame := range frames {
		is.sample.Frames = append(is.sample.Frames, Frame{
			Identity{frame.FirstLine, frame.Arguments, frame.KeywordOnly, frame.Flags, frame.Hash},
			frame.Offset,
		})
	}
	switch {
	case header.Flags&partUnreadable != 0:
		is.sample.Truncated = Unreadable
	case header.Flags&partTooDeep != 0:
		is.sample.Truncated = TooDeep
	}
	if header.Flags&partLast == 0 {
		return nil, nil
	}
	delete(a.open, header.CPU)
	return &is.sample, nil
}
