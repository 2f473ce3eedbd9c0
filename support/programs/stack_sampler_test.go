// SPDX-License-Identifier: Apache-2.0

//go:build integration

package programs

import (
	"bufio"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/bpfmatrix/bpfmatrix/support/internal/bpftest"
	"github.com/bpfmatrix/bpfmatrix/support/internal/cpuclock"
)

// struct stack_key
type stackKey struct {
	TGID        uint32
	KernelStack int32
	UserStack   int32
}

// struct stack_count
type stackCount struct {
	Samples uint64
	Comm    comm
}

// enum sample_counter
const (
	samplesSeen uint32 = iota
	samplesLost
)

const maxFrames = 127 // MAX_FRAMES

// A sampled stack with its addresses, the innermost first; nil where there was no such stack.
type sampledStack struct {
	stackKey
	stackCount
	kernel, user []uint64
}

func TestStackSampler(t *testing.T) {
	sampler := newStackSampler(t)
	us := uint32(os.Getpid())

	t.Run("busy_loop_is_seen", func(t *testing.T) {
		whileTestRuns(t, callSpin)
		stack := sampler.await(t, func(stack sampledStack) bool {
			return stack.TGID == us && innermost(stack.user) == nameOf(spin)
		})
		if stack.Samples == 0 {
			t.Error("the stack was sampled zero times")
		}
		// Which also shows that the frames were unwound.
		if names := goNames(stack.user); !slices.Contains(names, nameOf(callSpin)) {
			t.Errorf("no caller of the busy loop in %q", names)
		}
	})

	t.Run("kernel_stack_is_seen", func(t *testing.T) {
		vfsRead := kernelFunction(t, "vfs_read")
		whileTestRuns(t, readZeroes)
		// One and the same sample has what the thread did in the kernel, and what had it go there.
		sampler.await(t, func(stack sampledStack) bool {
			return stack.TGID == us && slices.ContainsFunc(stack.kernel, vfsRead.contains) &&
				slices.Contains(goNames(stack.user), nameOf(readZeroes))
		})
	})

	t.Run("processes_are_told_apart", func(t *testing.T) {
		cmd := child(t, childSpins)
		start(t, cmd)
		stack := sampler.await(t, func(stack sampledStack) bool {
			return stack.TGID == uint32(cmd.Process.Pid) && innermost(stack.user) == nameOf(spin)
		})
		if got, want := stack.Comm.String(), commOf(cmd.Path); got != want {
			t.Errorf("comm %q, want %q", got, want)
		}
	})

	t.Run("every_sample_is_counted", func(t *testing.T) {
		sampler.pause(t)
		var counted uint64
		for _, stack := range sampler.stacks(t) {
			counted += stack.Samples
		}
		seen, lost := sampler.counter(t, samplesSeen), sampler.counter(t, samplesLost)
		if seen == 0 || counted+lost != seen {
			t.Errorf("%d in stacks and %d lost, of %d", counted, lost, seen)
		}
	})
}

// spin is a busy loop that makes no calls and no system calls: the innermost frame is its own.
//
//go:noinline
func spin() (turns uint64) {
	for range 3_000_000 {
		turns = turns*31 + 7
	}
	return turns
}

// callSpin calls spin from ever other depths of the stack.
//
// A stack whose hash falls into a place of the stack map that is taken is lost for good, and under
// emulation a loop is interrupted at one address only: called from one place, spin would have one
// stack, and one run in some dozen would never see it.
//
//go:noinline
func callSpin(stop <-chan struct{}) {
	for depth := 0; ; depth = (depth + 1) % 32 {
		select {
		case <-stop:
			return
		default:
			spinAt(depth)
		}
	}
}

//go:noinline
func spinAt(depth int) uint64 {
	if depth == 0 {
		return spin()
	}
	return spinAt(depth-1) + 1
}

// readZeroes reads from ever other depths of the stack, for the reason that callSpin has.
//
//go:noinline
func readZeroes(stop <-chan struct{}) {
	zero, err := os.Open("/dev/zero")
	if err != nil {
		panic(err)
	}
	defer zero.Close()
	buffer := make([]byte, 1<<20)
	for depth := 0; ; depth = (depth + 1) % 32 {
		select {
		case <-stop:
			return
		default:
			readAt(depth, zero, buffer)
		}
	}
}

//go:noinline
func readAt(depth int, file *os.File, buffer []byte) int {
	if depth > 0 {
		return readAt(depth-1, file, buffer) + 1
	}
	count, err := file.Read(buffer)
	if err != nil {
		panic(err)
	}
	return count
}

// whileTestRuns runs work in the background, and waits for its end when the test ends.
func whileTestRuns(t *testing.T, work func(stop <-chan struct{})) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		work(stop)
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
	})
}

func nameOf(function any) string {
	return runtime.FuncForPC(reflect.ValueOf(function).Pointer()).Name()
}

// goNames names functions of this executable, and of a child that is the same one: it is static and
// not position-independent, so that every process has it at the same addresses.
func goNames(addresses []uint64) []string {
	names := make([]string, 0, len(addresses))
	for i, address := range addresses {
		if i > 0 {
			address-- // back from where the call returns to, into the call
		}
		if function := runtime.FuncForPC(uintptr(address)); function != nil {
			names = append(names, function.Name())
		}
	}
	return names
}

func innermost(user []uint64) string {
	if names := goNames(user[:min(len(user), 1)]); len(names) == 1 {
		return names[0]
	}
	return ""
}

// addressRange is where a function of the kernel lies.
type addressRange struct{ start, end uint64 }

// contains says whether address is in the function, or is where a call made by it returns to.
func (r addressRange) contains(address uint64) bool {
	return r.start < address && address <= r.end
}

// kernelFunction looks name up in kallsyms, which is sorted by address, and no further than it has to:
// the whole file takes an emulated machine the better part of a second.
func kernelFunction(t *testing.T, name string) (found addressRange) {
	t.Helper()
	file, err := os.Open("/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // ADDRESS TYPE NAME [MODULE]
		isIt := len(fields) == 3 && fields[2] == name
		if !isIt && found.start == 0 {
			continue
		}
		address, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil {
			t.Fatalf("kallsyms: %q", lines.Text())
		}
		if isIt {
			found.start = address
		} else if address > found.start {
			found.end = address
			return found
		}
	}
	t.Fatalf("kallsyms has no address for %s", name)
	return found
}

type stackSampler struct {
	collection *ebpf.Collection
	events     *cpuclock.Events
}

// newStackSampler starts to sample every CPU.
func newStackSampler(t *testing.T) *stackSampler {
	t.Helper()
	collection := bpftest.Load(t, "stack_sampler")
	// Often enough for a short test, and no load worth speaking of on an emulated machine.
	events, err := cpuclock.Attach(collection.Programs["on_sample"], 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Close)
	return &stackSampler{collection, events}
}

// pause stops sampling. When it returns, no program runs any more.
func (s *stackSampler) pause(t *testing.T) {
	t.Helper()
	if err := s.events.Pause(); err != nil {
		t.Fatal(err)
	}
}

// await returns the first stack that wanted accepts, sampled before or still to come.
func (s *stackSampler) await(t *testing.T, wanted func(sampledStack) bool) sampledStack {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		stacks := s.stacks(t)
		if i := slices.IndexFunc(stacks, wanted); i >= 0 {
			return stacks[i]
		}
		time.Sleep(5 * time.Millisecond) // for a few more samples
	}
	var collided uint64 // see callSpin
	for _, stack := range s.stacks(t) {
		if stack.UserStack == -int32(unix.EEXIST) {
			collided += stack.Samples
		}
	}
	t.Fatalf("no such stack within %v, of %d samples; the user stacks of %d were lost to others",
		patience, s.counter(t, samplesSeen), collided)
	return sampledStack{}
}

func (s *stackSampler) stacks(t *testing.T) []sampledStack {
	t.Helper()
	var stacks []sampledStack
	var stack sampledStack
	entries := s.collection.Maps["counts"].Iterate()
	for entries.Next(&stack.stackKey, &stack.stackCount) {
		stack.kernel = s.addresses(t, stack.KernelStack)
		stack.user = s.addresses(t, stack.UserStack)
		stacks = append(stacks, stack)
	}
	if err := entries.Err(); err != nil {
		t.Fatal(err)
	}
	return stacks
}

func (s *stackSampler) addresses(t *testing.T, id int32) []uint64 {
	t.Helper()
	if id < 0 {
		return nil
	}
	var frames [maxFrames]uint64
	if err := s.collection.Maps["stacks"].Lookup(uint32(id), &frames); err != nil {
		t.Fatalf("stack %d: %v", id, err)
	}
	if end := slices.Index(frames[:], 0); end >= 0 {
		return frames[:end]
	}
	return frames[:]
}

// counter returns the sum over all CPUs.
func (s *stackSampler) counter(t *testing.T, which uint32) (sum uint64) {
	t.Helper()
	var perCPU []uint64
	if err := s.collection.Maps["sample_counters"].Lookup(which, &perCPU); err != nil {
		t.Fatal(err)
	}
	for _, value := range perCPU {
		sum += value
	}
	return sum
}
