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
	"github.com/cilium/ebpf/link"
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
		// A round fits into the buffer, so that a slow reader loses nothing; all of them go around it
		// several times.
		const rounds, eachRound = 8, 2000
		var events []numberedEvent
		for range rounds {
			ring.trigger(eachRound)
			events = append(events, ring.read(t)...)
		}
		for i, event := range events {
			if event.Sequence != uint64(i) {
				t.Fatalf("got event %d, want %d", event.Sequence, i)
			}
			if i > 0 && event.Time < events[i-1].Time {
				t.Fatalf("event %d is of %d ns, the one before of %d", i, event.Time, events[i-1].Time)
			}
		}
		ring.account(t, rounds*eachRound, len(events))
		if dropped := ring.dropped(t); dropped != 0 {
			t.Errorf("%d dropped", dropped)
		}
	})

	t.Run("full_buffer_counts_drops", func(t *testing.T) {
		size := os.Getpagesize() // the smallest that there is
		ring := newNumberedRing(t, size)
		// Each event takes 16 bytes and a header of 8, so that about a third of these fit.
		triggered := size / 8
		ring.trigger(triggered)

		events := ring.read(t)
		dropped := int(ring.dropped(t))
		if dropped == 0 || len(events) == 0 {
			t.Fatalf("%d dropped, %d not", dropped, len(events))
		}
		ring.account(t, triggered, dropped+len(events))
		// What fitted is the beginning, as a full buffer refuses the new and keeps the old.
		for i, event := range events {
			if event.Sequence != uint64(i) {
				t.Fatalf("got event %d, want %d", event.Sequence, i)
			}
		}

		// Once it was read, there is space again.
		const more = 10
		ring.trigger(more)
		again := ring.read(t)
		ring.account(t, triggered+more, dropped+len(events)+len(again))
		if len(again) == 0 || again[0].Sequence != uint64(dropped+len(events)) {
			t.Errorf("after the buffer was emptied: got %+v", again)
		}
	})
}

type numberedRing struct {
	collection *ebpf.Collection
	reader     *ringbuf.Reader
	trigger    func(times int) // has the program send that many events
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
	attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{
		Name: "sys_enter", Program: collection.Programs["on_sys_enter"],
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { attached.Close() })
	return &numberedRing{collection, reader, trigger}
}

// read returns all events that are there: what was triggered sent them before it was done.
func (r *numberedRing) read(t *testing.T) (events []numberedEvent) {
	t.Helper()
	for r.reader.AvailableBytes() > 0 {
		r.reader.SetDeadline(time.Now().Add(patience))
		record, err := r.reader.Read()
		if err != nil {
			t.Fatalf("no event within %v: %v", patience, err)
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

// account fails the test if the program ran less often than it was triggered, other than where the
// kernel counts that it left it out. That count is of all threads, so there may be less.
func (r *numberedRing) account(t *testing.T, triggered, ran int) {
	t.Helper()
	leftOut := bpftest.RecursionMisses(t, r.collection.Programs)
	missing := triggered - ran
	if missing < 0 || missing > int(leftOut) {
		t.Errorf("ran %d times, triggered %d times, of which the kernel left out at most %d",
			ran, triggered, leftOut)
	} else if missing > 0 {
		t.Logf("the kernel left out %d times of %d", missing, triggered)
	}
}

func (r *numberedRing) dropped(t *testing.T) (dropped uint64) {
	t.Helper()
	if err := r.collection.Variables["dropped"].Get(&dropped); err != nil {
		t.Fatal(err)
	}
	return dropped
}

// newGetppidThread starts a thread that calls getppid, which nothing else in this process does, as
// often as it is told. It returns the thread's id.
func newGetppidThread(t *testing.T) (call func(times int), tid int) {
	t.Helper()
	requests, answers := make(chan int), make(chan int)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		answers <- unix.Gettid()
		for times := range requests {
			for range times {
				unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
			}
			answers <- times
		}
	}()
	t.Cleanup(func() { close(requests) })
	return func(times int) {
		requests <- times
		<-answers
	}, <-answers
}
