// SPDX-License-Identifier: Apache-2.0

//go:build integration

package programs

import (
	"math"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/bpfmatrix/bpfmatrix/support/internal/bpftest"
)

// struct sum_context
type sumContext struct {
	Iterations uint32
	StopAt     uint32
	Sum        uint64
	Looped     int32
	_          uint32
}

func TestBoundedLoops(t *testing.T) {
	program := bpftest.Load(t, "bounded_loops").Programs["sum_range"]
	const never = math.MaxUint32
	sumUpTo := func(n uint64) uint64 { return n * (n - 1) / 2 }

	for _, test := range []struct {
		name       string
		iterations uint32
		stopAt     uint32
		sum        uint64
		looped     int32
	}{
		// More iterations than the verifier could unroll: it stops after a million instructions.
		{"sum_is_right", 300_000, never, sumUpTo(300_000), 300_000},
		// The iteration that stops the loop is counted, too.
		{"stops_early", 300_000, 1000, sumUpTo(1000), 1001},
		{"no_iterations", 0, never, 0, 0},
		{"too_many_are_refused", 1<<23 + 1, never, 0, -int32(unix.E2BIG)}, // BPF_MAX_LOOPS + 1
	} {
		t.Run(test.name, func(t *testing.T) {
			got := sumContext{Iterations: test.iterations, StopAt: test.stopAt}
			if _, err := program.Run(&ebpf.RunOptions{Context: got, ContextOut: &got}); err != nil {
				t.Fatal(err)
			}
			if got.Sum != test.sum || got.Looped != test.looped {
				t.Errorf("sum %d, bpf_loop returned %d, want %d, %d",
					got.Sum, got.Looped, test.sum, test.looped)
			}
		})
	}
}
