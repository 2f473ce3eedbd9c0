// SPDX-License-Identifier: Apache-2.0

//go:build integration

package programs

import (
	"bytes"
	"encoding/binary"
	"errors"
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
		var last numberedEvent
		for round := range rounds {
			ring.trigger(eachRound)
			for i := range eachRound {
				event := ring.read(t)
				if want := uint64(round*eachRound + i); event.Sequence != want {
					t.Fatalf("got event %d, want %d", event.Sequence, want)
				}
				if event.Time < last.Time {
					t.Fatalf("event %d is of %d ns, the one before of %d", event.Sequence, event.Time, last.Time)
				}
				last = event
			}
		}
		if dropped := ring.dropped(t); dropped != 0 {
			t.Errorf("%d dropped", dropped)
		}
	})

	t.Run("full_buffer_counts_drops", func(t *testing.T) {
		size := os.Getpagesize() // the smallest that there is
		ring := newNumberedRing(t, size)
		// Each event takes 16 bytes and a header of 8, so that about a third of these fit.
		triggered := uint64(size / 8)
		ring.trigger(int(triggered))

		dropped := ring.dropped(t)
		if dropped == 0 || dropped >= triggered {
			t.Fatalf("%d of %d dropped", dropped, triggered)
		}
		// What fitted is the beginning, as a full buffer refuses the new and keeps the old.
		for want := range triggered - dropped {
			if event := ring.read(t); event.Sequence != want {
				t.Fatalf("got event %d, want %d", event.Sequence, want)
			}
		}
		if event, err := ring.readBy(time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("beyond the %d that were not dropped: %+v, %v", triggered-dropped, event, err)
		}

		// Once it was read, there is space again.
		ring.trigger(1)
		if event := ring.read(t); event.Sequence != triggered {
			t.Errorf("after the buffer was emptied: got event %d, want %d", event.Sequence, triggered)
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

func (r *numberedRing) read(t *testing.T) numberedEvent {
	t.Helper()
	event, err := r.readBy(time.Now().Add(patience))
	if err != nil {
		t.Fatalf("no event within %v: %v", patience, err)
	}
	return event
}

func (r *numberedRing) readBy(deadline time.Time) (event numberedEvent, err error) {
	r.reader.SetDeadline(deadline)
	record, err := r.reader.Read()
	if err != nil {
		return event, err
	}
	err = binary.Read(bytes.NewReader(record.RawSample), binary.NativeEndian, &event)
	return event, err
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
