// SPDX-License-Identifier: Apache-2.0

package bpftest

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/bpfmatrix/bpfmatrix/support/internal/requirement"
)

// Load loads the object that was built from ebpf/NAME.bpf.c, and unloads it when the test ends.
// Each change is applied to what will be loaded, such as the value of a constant.
//
// It skips the test where the object requires a newer kernel, and fails it, with the verifier's log,
// where the kernel rejects a program.
func Load(t testing.TB, name string, changes ...func(*ebpf.CollectionSpec) error) *ebpf.Collection {
	t.Helper()
	path, err := ObjectPath(name)
	if err != nil {
		t.Fatal(err)
	}
	skipUnlessMet(t, path)

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
		t.Fatal(describeRejection(path, spec, err, rejection))
	} else if err != nil {
		t.Fatalf("load %s: %v", path, err)
	}
	t.Cleanup(collection.Close)
	return collection
}

// SetVariable is a change for [Load]: the value of a `const volatile`, fixed before the program loads.
func SetVariable(name string, value any) func(*ebpf.CollectionSpec) error {
	return func(spec *ebpf.CollectionSpec) error {
		variable := spec.Variables[name]
		if variable == nil {
			return errors.New("no variable " + name)
		}
		return variable.Set(value)
	}
}

// LeftOut returns how often the kernel did not run programs where it should have: it runs none on a CPU
// on which that program is running already. Seen in 7.3, where a task can be preempted in a raw
// tracepoint: of four threads that died at once, an exit went unseen. Older kernels than 5.12 do not
// count it; no task is preempted there.
func LeftOut(t testing.TB, programs map[string]*ebpf.Program) (count uint64) {
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

func skipUnlessMet(t testing.TB, path string) {
	t.Helper()
	reason, err := Unmet(path)
	if err != nil {
		t.Fatal(err)
	}
	if reason != "" {
		t.Skip(reason)
	}
}

// Unmet returns why an object can't run on this kernel, by what it says of itself, or nothing.
func Unmet(path string) (string, error) {
	if os.Getenv(requirement.IgnoreVariable) == "1" {
		return "", nil
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	wanted, err := requirement.Read(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	kernel, err := requirement.KernelRelease()
	if err != nil {
		return "", err
	}
	return wanted.UnmetBy(kernel)
}
