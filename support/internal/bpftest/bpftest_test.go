// SPDX-License-Identifier: Apache-2.0

// Left out with the tag: `go test -c -tags integration ./...` builds only the tests that run in a
// guest.
//go:build !integration

package bpftest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf/asm"
)

func TestObjectPath(t *testing.T) {
	top := t.TempDir()
	deep := filepath.Join(top, "support", "programs")
	for _, dir := range []string{deep, filepath.Join(top, "ebpf"), filepath.Join(top, "other")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"ebpf/x.bpf.o", "other/x.bpf.o"} {
		if err := os.WriteFile(filepath.Join(top, path), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(deep)

	t.Setenv(ObjectsVariable, "")
	if got, err := ObjectPath("x"); err != nil || got != filepath.Join(top, "ebpf", "x.bpf.o") {
		t.Errorf("nearest ebpf: got %q, %v", got, err)
	}
	if got, err := ObjectPath("y"); err == nil {
		t.Errorf("an object that was not built: got %q, want an error", got)
	}
	t.Setenv(ObjectsVariable, filepath.Join(top, "other"))
	if got, err := ObjectPath("x"); err != nil || got != filepath.Join(top, "other", "x.bpf.o") {
		t.Errorf("$%s: got %q, %v", ObjectsVariable, got, err)
	}
}

func TestRejectionPoint(t *testing.T) {
	for _, test := range []struct {
		name     string
		log      []string
		offset   asm.RawInstructionOffset
		found    bool
		messages []string
	}{
		{"an instruction", []string{
			"; *count += 1;",
			"11: (bf) r2 = r10",
			"12: (7b) *(u64 *)(r0 +0) = r1",
			"R0 invalid mem access 'map_value_or_null'",
			"processed 12 insns (limit 1000000)",
			"",
		}, 12, true, []string{"R0 invalid mem access 'map_value_or_null'"}},
		{"a report after it", []string{
			"60: (db) lock *(u64 *)(r0 +0) += r1",
			"R0 invalid mem access 'map_value_or_null'",
			"",
			"Verification failed: Register Type Safety: Invalid dereference",
			"      60 | (db) lock *(u64 *)(r0 +0) += r1",
		}, 60, true, []string{"R0 invalid mem access 'map_value_or_null'"}},
		{"no instruction", []string{
			"reg type unsupported", "invalid func unknown#181", "processed 0 insns",
		}, 0, false, []string{"invalid func unknown#181"}},
		{"nothing", nil, 0, false, nil},
	} {
		offset, found, messages := rejectionPoint(test.log)
		if offset != test.offset || found != test.found || !slices.Equal(messages, test.messages) {
			t.Errorf("%s: got %d, %v, %q, want %d, %v, %q", test.name,
				offset, found, messages, test.offset, test.found, test.messages)
		}
	}
}
