package counter

import (
	"sync"
	"testing"
)

// Without the mutex in Counter, the race detector makes this fail on each kernel.
func TestManyReaders(t *testing.T) {
	counter, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer counter.Close()
	const goroutines, packets = 4, 50
	const header, length = 14, 100 // the program does not see the Ethernet header
	var group sync.WaitGroup
	for range goroutines {
		group.Add(1)
		go func() {
			defer group.Done()
			for range packets {
				if _, _, err := counter.program.Test(make([]byte, header+length)); err != nil {
					t.Error(err)
					return
				}
				if _, err := counter.Read(length); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	group.Wait()
	count, err := counter.Read(length)
	if err != nil {
		t.Fatal(err)
	}
	if count != goroutines*packets {
		t.Errorf("counted %d packets, want %d", count, goroutines*packets)
	}
}
