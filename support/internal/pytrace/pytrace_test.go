// SPDX-License-Identifier: Apache-2.0

// Left out with the tag: `go test -c -tags integration ./...` builds only the tests that run in a
// guest.
//go:build !integration

package pytrace

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestParseMaps(t *testing.T) {
	got, err := parseMaps(strings.NewReader(`00400000-0041f000 r--p 00000000 fe:00 131 /usr/bin/python3.11
0041f000-006c5000 r-xp 0001f000 fe:00 131 /usr/bin/python3.11
7f0000000000-7f0000001000 rw-p 00000000 00:00 0
7f0000001000-7f0000002000 r--p 00002000 fe:00 132 /a folder/libpython3.13.so.1.0
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
`))
	want := []mapping{
		{0x400000, 0, "/usr/bin/python3.11"},
		{0x7f0000001000, 0x2000, "/a folder/libpython3.13.so.1.0"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, text := range []string{"x\n", "00400000 r--p 0 0 0\n", "\n"} {
		if got, err := parseMaps(strings.NewReader(text)); err == nil {
			t.Errorf("parseMaps(%q) = %v, want an error", text, got)
		}
	}
}

func TestLoadBias(t *testing.T) {
	segments := []*elf.Prog{
		{ProgHeader: elf.ProgHeader{Type: elf.PT_NOTE, Off: 0x300, Vaddr: 0x300}},
		{ProgHeader: elf.ProgHeader{Type: elf.PT_LOAD, Off: 0x1234, Vaddr: 0x3234}},
	}
	if got, err := loadBias(segments, mapping{start: 0x7f0000003000, offset: 0x1000}); err != nil ||
		got != 0x7f0000000000 {
		t.Errorf("got %#x, %v", got, err)
	}
	if got, err := loadBias(segments, mapping{start: 0x1000, offset: 0x5000}); err == nil {
		t.Errorf("got %#x, want an error", got)
	}
}

// validOffsets returns fields of the _Py_DebugOffsets of CPython 3.13.0 on x86-64. The others are 0.
func validOffsets() map[string]uint64 {
	return map[string]uint64{
		"runtime.interpreters_head": 632,
		"interpreter.next":          7264, "interpreter.threads_head": 7344,
		"thread.next": 8, "thread.current_frame": 72, "thread.native_thread_id": 160,
		"frame.previous": 8, "frame.instr_ptr": 56, "frame.localsplus": 72, "frame.owner": 70,
		"code.linetable": 136, "code.firstlineno": 68, "code.argcount": 52,
		"code.filename": 112, "code.qualname": 128, "code.co_code_adaptive": 200,
		"bytes.ob_size": 16, "bytes.ob_sval": 32, "unicode.asciiobject_size": 40,
	}
}

func encodeOffsets(layout string, offsets map[string]uint64) []byte {
	data := []byte(debugCookie)
	for _, name := range debugFields(layout) {
		data = binary.LittleEndian.AppendUint64(data, offsets[name])
	}
	return data
}

func TestParseDebugOffsets(t *testing.T) {
	for v, layout := range debugLayouts {
		whole := encodeOffsets(layout, validOffsets())
		got, err := parseDebugOffsets(whole, layout)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		if got.CodeFlags != 48 || got.CodeKeywordOnly != 60 || got.CodeSize != 144 ||
			got.BytesData != 32 || got.CodeBytecode != 200 || got.TextData != 56 {
			t.Errorf("%v: got %+v", v, got)
		}
		for size := range whole {
			if _, err := parseDebugOffsets(whole[:size], layout); err == nil {
				t.Fatalf("%v: %d of %d bytes: no error", v, size, len(whole))
			}
		}
	}
}

func TestImpossibleDebugOffsetsAreRefused(t *testing.T) {
	layout := debugLayouts[version{3, 14}]
	for _, change := range []struct {
		name  string
		value uint64
	}{
		{"frame.previous", frameBlock},     // a frame too large
		{"code.linetable", codeBlock},      // a code object too large
		{"code.firstlineno", 1 << 20},      // a line outside
		{"frame.owner", frameBlock},        // an owner outside
		{"code.argcount", 0},               // no argument count
		{"frame.instr_ptr", 65},            // a pointer that is not aligned
		{"code.linetable", 1<<32 - 8},      // a table that overflows
		{"frame.executable", 1<<32 - 4},    // a pointer that overflows
		{"frame.executable", 1 << 32},      // a pointer that would be cut off
		{"code.linetable", math.MaxUint64}, // a table that would be cut off
	} {
		offsets := validOffsets()
		offsets[change.name] = change.value
		if got, err := parseDebugOffsets(encodeOffsets(layout, offsets), layout); err == nil {
			t.Errorf("%s %d: got %+v, want an error", change.name, change.value, got)
		}
	}
	other := encodeOffsets(layout, validOffsets())
	other[0]++
	if got, err := parseDebugOffsets(other, layout); err == nil {
		t.Errorf("another cookie: got %+v, want an error", got)
	}
	free := validOffsets()
	free["build.free_threaded"] = 1
	if _, err := parseDebugOffsets(encodeOffsets(layout, free), layout); !errors.Is(err, ErrUnsupported) {
		t.Errorf("free-threaded: %v", err)
	}
}

func TestVersionOfAFile(t *testing.T) {
	for text, want := range map[string]version{
		"\x00.cpython-310-x86_64-linux-gnu.so\x00": {3, 10},
		"\x00.cpython-38d-x86_64-linux-gnu.so\x00": {3, 8},
	} {
		found := extensionSuffix.FindStringSubmatch(text)
		if found == nil || found[1]+"."+found[2] != fmt.Sprintf("%d.%d", want.major, want.minor) {
			t.Errorf("%q: %q", text, found)
		}
	}
}

func TestOffsetTablesAreWithinTheBlocks(t *testing.T) {
	for v, table := range offsetTables {
		if err := table.check(); err != nil {
			t.Errorf("%v: %v", v, err)
		}
	}
}

func TestProcessHasTheSizeOfTheMapsValue(t *testing.T) {
	if got, want := binary.Size(process{}), 8+32*4; got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}

func TestAFileIsReadOnceForAllProcesses(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	first, err := programAt(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := programAt("/proc/self/exe"); again != first || err != nil {
		t.Errorf("got %p, %v, want %p", again, err, first)
	}
}

func TestThisProcessHasNoPython(t *testing.T) {
	if got, err := Inspect(os.Getpid()); !errors.Is(err, ErrNoPython) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := Inspect(-1); err == nil {
		t.Errorf("got %v, want an error", got)
	}
}
