// SPDX-License-Identifier: Apache-2.0

//go:build integration

package programs

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/bpfmatrix/bpfmatrix/support/internal/bpftest"
)

// struct numbered_event
type numberedEvent struct {
	Sequence uint64
	Time     uint64
}

func TestRingbufEvents(t *testing.T) {
	t.Run("in_order_and_none_lost", func(t *testing.T) {
		ring := newNumberedRing(t, 64*1024)
		// The events of one round fit into the buffer, so none is lost before they are read. All
		// rounds together wrap around the buffer several times.
		const rounds, eventsPerRound = 8, 2000
		var events []numberedEvent
		for range rounds {
			ring.trigger(eventsPerRound)
			events = append(events, ring.read(t)...)
		}
		for i, event := range events {
			if event.Sequence != uint64(i) {
				t.Fatalf("got event %d, want %d", event.Sequence, i)
			}
			if i > 0 && event.Time < events[i-1].Time {
				t.Fatalf("event %d has the time %d ns, the one before it %d ns",
					i, event.Time, events[i-1].Time)
			}
		}
		ring.checkRuns(t, rounds*eventsPerRound, len(events))
		if dropped := ring.dropped(t); dropped != 0 {
			t.Errorf("%d dropped", dropped)
		}
	})

	t.Run("full_buffer_counts_drops", func(t *testing.T) {
		size := os.Getpagesize() // the smallest size of a ring buffer
		ring := newNumberedRing(t, size)
		// Each event takes 16 bytes and a header of 8 bytes, so about a third of these fit.
		triggered := size / 8
		ring.trigger(triggered)

		events := ring.read(t)
		dropped := int(ring.dropped(t))
		if dropped == 0 || len(events) == 0 {
			t.Fatalf("%d events dropped, %d sent", dropped, len(events))
		}
		ring.checkRuns(t, triggered, dropped+len(events))
		// The first events are the ones that fit: a full buffer keeps what it has, and refuses new
		// events.
		for i, event := range events {
			if event.Sequence != uint64(i) {
				t.Fatalf("got event %d, want %d", event.Sequence, i)
			}
		}

		// Once the buffer is read, it has space again.
		const more = 10
		ring.trigger(more)
		again := ring.read(t)
		ring.checkRuns(t, triggered+more, dropped+len(events)+len(again))
		if len(again) == 0 || again[0].Sequence != uint64(dropped+len(events)) {
			t.Errorf("after the buffer was emptied: got %+v", again)
		}
	})
}

type numberedRing struct {
	collection *ebpf.Collection
	reader     *ringbuf.Reader
	trigger    func(times int) // makes the program send that many events
}

func newNumberedRing(t *testing.T, size int) *numberedRing {
	t.Helper()
	trigger, tid := newGetppidThread(t)
	collection := bpftest.Load(t, "ringbuf_events",
		bpftest.SetVariable("target_tid", uint32(tid)),
		bpftest.SetVariable("target_syscall", uint64(unix.SYS_GETPPID)),
		func(spec *ebpf.CollectionSpec) error {
			spec.Maps["events"].MaxEntries = uint32(size)
			return nil
		},
	)
	reader, err := ringbuf.NewReader(collection.Maps["events"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	attachRawTracepoint(t, "sys_enter", collection.Programs["on_sys_enter"])
	return &numberedRing{collection, reader, trigger}
}

// read returns all events that are in the buffer. An event is sent before trigger returns.
func (r *numberedRing) read(t *testing.T) (events []numberedEvent) {
	t.Helper()
	for r.reader.AvailableBytes() > 0 {
		r.reader.SetDeadline(time.Now().Add(eventTimeout))
		record, err := r.reader.Read()
		if err != nil {
			t.Fatalf("no event within %v: %v", eventTimeout, err)
		}
		var event numberedEvent
		err = binary.Read(bytes.NewReader(record.RawSample), binary.NativeEndian, &event)
		if err != nil {
			t.Fatalf("event of %d bytes: %v", len(record.RawSample), err)
		}
		events = append(events, event)
	}
	return events
}

// checkRuns fails the test unless the program ran as often as it was triggered. It may have run
// less often by the number of recursion misses that the kernel counts, which are those of all
// threads.
func (r *numberedRing) checkRuns(t *testing.T, triggered, ran int) {
	t.Helper()
	misses := bpftest.RecursionMisses(t, r.collection.Programs)
	missing := triggered - ran
	if missing < 0 || missing > int(misses) {
		t.Errorf("triggered %d times and ran %d times, with %d recursion misses",
			triggered, ran, misses)
	} else if missing > 0 {
		t.Logf("%d of %d runs are missing, because of recursion", missing, triggered)
	}
}

func (r *numberedRing) dropped(t *testing.T) (dropped uint64) {
	t.Helper()
	if err := r.collection.Variables["dropped"].Get(&dropped); err != nil {
		t.Fatal(err)
	}
	return dropped
}

// newGetppidThread starts a thread, and returns its id and a function that makes it call getppid a
// number of times. Nothing else in this process calls getppid.
func newGetppidThread(t *testing.T) (call func(times int), tid int) {
	t.Helper()
	requests, replies := make(chan int), make(chan int)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		replies <- unix.Gettid()
		for times := range requests {
			for range times {
				unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
			}
			replies <- times
		}
	}()
	t.Cleanup(func() { close(requests) })
	return func(times int) {
		requests <- times
		<-replies
	}, <-replies
}
