// SPDX-License-Identifier: Apache-2.0

package bpftest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/bpfmatrix/bpfmatrix/support/internal/requirement"
)

// Load loads the object that was built from ebpf/NAME.bpf.c, and unloads it when the test ends.
// Changes are applied to the object before it is loaded, for example to set a constant.
//
// If the object requires a newer kernel, or a JIT compiler that the kernel does not have, it skips
// the test. If the kernel rejects a program, it fails the test with the verifier's log.
func Load(t testing.TB, name string, changes ...func(*ebpf.CollectionSpec) error) *ebpf.Collection {
	t.Helper()
	path, err := ObjectPath(name)
	if err != nil {
		t.Fatal(err)
	}
	if reason, err := Unmet(path); err != nil {
		t.Fatal(err)
	} else if reason != "" {
		t.Skip(reason)
	}

	spec, err := ebpf.LoadCollectionSpec(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		if err := change(spec); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	// Kernels before 5.11 charge maps and programs to the limit of locked memory.
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatalf("raise the limit of locked memory: %v", err)
	}
	collection, err := ebpf.NewCollection(spec)
	var rejection *ebpf.VerifierError
	if errors.As(err, &rejection) {
		if needsJIT(rejection.Log) {
			t.Skip("needs a JIT compiler for eBPF, which this kernel does not have (CONFIG_BPF_JIT) " +
				"or does not use (net.core.bpf_jit_enable)")
		}
		t.Fatal(describeRejection(path, spec, err, rejection))
	} else if err != nil {
		t.Fatalf("load %s: %v", path, err)
	}
	t.Cleanup(collection.Close)
	return collection
}

// needsJIT tells whether the verifier rejected a program because the kernel would interpret it.
func needsJIT(log []string) bool {
	// kernel/bpf/verifier.c: jit_subprogs and fixup_call_args.
	return slices.ContainsFunc(log, func(line string) bool {
		return strings.Contains(line, "are not allowed in non-JITed programs")
	})
}

// SetVariable returns a change for [Load] that sets a variable, such as a `const volatile`.
func SetVariable(name string, value any) func(*ebpf.CollectionSpec) error {
	return func(spec *ebpf.CollectionSpec) error {
		variable := spec.Variables[name]
		if variable == nil {
			return errors.New("no variable " + name)
		}
		return variable.Set(value)
	}
}

// RecursionMisses returns how many runs of the programs the kernel left out. It does not run a
// program on a CPU on which that program is already running. This happens in 7.3, where a task can
// be preempted in a raw tracepoint: when four threads exited at the same time, one exit was missed.
// Kernels before 5.12 do not count these runs, but do not preempt a task there, either.
func RecursionMisses(t testing.TB, programs map[string]*ebpf.Program) (count uint64) {
	t.Helper()
	for _, program := range programs {
		stats, err := program.Stats()
		if err != nil {
			t.Fatal(err)
		}
		count += stats.RecursionMisses
	}
	return count
}

// Unmet says why the running kernel can't run an object, by the object's own declaration. It is
// empty if the kernel can.
func Unmet(path string) (string, error) {
	if requirement.Ignored() {
		return "", nil
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	declared, err := requirement.Read(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return declared.Unmet()
}
