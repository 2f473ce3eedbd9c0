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

// A sampledStack has the addresses of a sample, the innermost first. A stack that was not found is
// nil.
type sampledStack struct {
	stackKey
	stackCount
	kernel, user []uint64
}

// hasFramePointers tells whether the kernel can unwind the stack of a Go program
// (cmd/internal/objabi of Go, Framepointer_enabled).
const hasFramePointers = runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64"

func TestStackSampler(t *testing.T) {
	sampler := newStackSampler(t)
	ownPID := uint32(os.Getpid())

	t.Run("busy_loop_is_seen", func(t *testing.T) {
		whileTestRuns(t, callSpin)
		stack := sampler.await(t, func(stack sampledStack) bool {
			return stack.TGID == ownPID && innermost(stack.user) == nameOf(spin)
		})
		if stack.Samples == 0 {
			t.Error("the stack was sampled zero times")
		}
		// This shows that the stack was unwound.
		if !hasFramePointers {
			t.Skip("the loop was seen, but not its callers: Go has no frame pointers on", runtime.GOARCH)
		}
		if names := goNames(stack.user); !slices.Contains(names, nameOf(callSpin)) {
			t.Errorf("no caller of the busy loop in %q", names)
		}
	})

	t.Run("kernel_stack_is_seen", func(t *testing.T) {
		vfsRead := kernelFunction(t, "vfs_read")
		whileTestRuns(t, readZeroes)
		// One sample has both the function of the kernel and the user function that made the system
		// call.
		sampler.await(t, func(stack sampledStack) bool {
			return stack.TGID == ownPID && slices.ContainsFunc(stack.kernel, vfsRead.contains) &&
				(slices.Contains(goNames(stack.user), nameOf(readZeroes)) || !hasFramePointers)
		})
	})

	t.Run("processes_are_told_apart", func(t *testing.T) {
		cmd := childCommand(t, childSpins)
		startChild(t, cmd)
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
			t.Errorf("%d samples in stacks and %d lost, of %d", counted, lost, seen)
		}
	})
}

// spin is a busy loop without calls or system calls, so it is always the innermost frame.
//
//go:noinline
func spin() (turns uint64) {
	for range 3_000_000 {
		turns = turns*31 + 7
	}
	return turns
}

// callSpin calls spin from different depths of the stack in turn.
//
// The stack map drops a stack if another one with the same hash is in its bucket. Under emulation,
// a loop is always interrupted at the same address. So if spin were called from one depth, it would
// have only one stack, and about one test run in a dozen would never see it.
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

// readZeroes reads from different depths of the stack in turn, for the same reason as callSpin.
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

// whileTestRuns runs work in the background. When the test ends, it stops the work and waits for
// its end.
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

// goNames returns the names of the functions at addresses in a process that runs this executable.
// It is static and not position-independent, so every such process has the same addresses.
func goNames(addresses []uint64) []string {
	names := make([]string, 0, len(addresses))
	for i, address := range addresses {
		if i > 0 {
			address-- // from the return address back into the call
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

// An addressRange has the addresses of a kernel function.
type addressRange struct{ start, end uint64 }

// contains tells whether an address is in the function, or is the return address of a call from it.
func (r addressRange) contains(address uint64) bool {
	return r.start < address && address <= r.end
}

// kernelFunction returns the addresses of a kernel function, by /proc/kallsyms, which is sorted by
// address. It stops reading as soon as it can: the whole file takes an emulated machine most of a
// second.
func kernelFunction(t *testing.T, name string) (found addressRange) {
	t.Helper()
	file, err := os.Open("/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // ADDRESS TYPE NAME [MODULE]
		matches := len(fields) == 3 && fields[2] == name
		if !matches && found.start == 0 {
			continue
		}
		address, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil {
			t.Fatalf("kallsyms: %q", lines.Text())
		}
		if matches {
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

// newStackSampler starts to sample all CPUs.
func newStackSampler(t *testing.T) *stackSampler {
	t.Helper()
	collection := bpftest.Load(t, "stack_sampler")
	// Often enough for a short test, and little load on an emulated machine.
	events, err := cpuclock.Attach(collection.Programs["on_sample"], 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Close)
	return &stackSampler{collection, events}
}

// pause stops sampling. When it returns, the program is not running on any CPU.
func (s *stackSampler) pause(t *testing.T) {
	t.Helper()
	if err := s.events.Pause(); err != nil {
		t.Fatal(err)
	}
}

// await returns the first stack that matches, which may have been sampled already.
func (s *stackSampler) await(t *testing.T, matches func(sampledStack) bool) sampledStack {
	t.Helper()
	for deadline := time.Now().Add(eventTimeout); time.Now().Before(deadline); {
		stacks := s.stacks(t)
		if i := slices.IndexFunc(stacks, matches); i >= 0 {
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
	t.Fatalf("no such stack within %v in %d samples; %d user stacks were lost to hash collisions",
		eventTimeout, s.counter(t, samplesSeen), collided)
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
