// SPDX-License-Identifier: Apache-2.0

// Package pytrace samples the frames of CPython processes with ebpf/python_tracer.bpf.c.
package pytrace

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/bpfmatrix/bpfmatrix/support/internal/cpuclock"
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
	NotFound   uint64 `json:"not_found"`
}

// LostSamples are samples that did not fit into the ring buffer.
type LostSamples struct {
	PID uint32
	// The innermost frame of these samples. Its Code is nil if it is not known.
	Innermost Frame
	Count     uint64
}

// A Tracer is the attached eBPF program.
type Tracer struct {
	collection *ebpf.Collection
	events     *cpuclock.Events
	links      []link.Link
	reader     *ringbuf.Reader
	records    records
}

// New attaches the programs of a loaded python_tracer.bpf.o, which the caller closes, and samples
// each CPU once per interval.
func New(collection *ebpf.Collection, interval time.Duration) (*Tracer, error) {
	reader, err := ringbuf.NewReader(collection.Maps["records"])
	if err != nil {
		return nil, err
	}
	events, err := cpuclock.Attach(collection.Programs["on_sample"], interval)
	if err != nil {
		reader.Close()
		return nil, err
	}
	tracer := &Tracer{collection: collection, events: events, reader: reader}
	for _, name := range []string{"fork", "exec", "exit"} {
		attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{
			Name: "sched_process_" + name, Program: collection.Programs["on_"+name],
		})
		if err != nil {
			tracer.Close()
			return nil, fmt.Errorf("sched_process_%s: %w", name, err)
		}
		tracer.links = append(tracer.links, attached)
	}
	return tracer, nil
}

// Close detaches the programs.
func (t *Tracer) Close() {
	for _, attached := range t.links {
		attached.Close()
	}
	t.events.Close()
	t.reader.Close()
}

// Pause stops sampling. Samples that were taken before can still be read.
func (t *Tracer) Pause() error { return t.events.Pause() }

// Add starts to trace a process. It may be called while another goroutine waits in [Tracer.Next].
func (t *Tracer) Add(pid int, interpreter *Interpreter) error {
	t.records.trace(uint32(pid), interpreter.process)
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
		sample, err := t.records.add(record.RawSample)
		if sample != nil || err != nil {
			return sample, err
		}
	}
}

// Counters returns the sums over all CPUs.
func (t *Tracer) Counters() (sums Counters, err error) {
	for which, sum := range []*uint64{
		&sums.Seen, &sums.NoThread, &sums.NoFrame, &sums.Unreadable, &sums.TooDeep, &sums.Lost,
		&sums.NotFound,
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

// Lost returns the samples that were lost, by their innermost frames, the most frequent first. The
// map that counts them is limited, so that their sum may be less than [Counters].Lost. It must not be
// called while another goroutine waits in [Tracer.Next].
func (t *Tracer) Lost() (lost []LostSamples, err error) {
	var key struct { // struct lost_key
		TGID, Code uint32
		Offset     int32
	}
	var count uint64
	entries := t.collection.Maps["lost_samples"].Iterate()
	for entries.Next(&key, &count) {
		frame := Frame{t.records.codes[key.Code], key.Offset}
		lost = append(lost, LostSamples{key.TGID, frame, count})
	}
	slices.SortFunc(lost, func(a, b LostSamples) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Innermost.Offset, b.Innermost.Offset))
	})
	return lost, entries.Err()
}
