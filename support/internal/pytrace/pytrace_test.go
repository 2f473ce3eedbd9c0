// SPDX-License-Identifier: Apache-2.0

// Left out with the tag: `go test -c -tags integration ./...` builds only the tests that run in a
// guest.
//go:build !integration

package pytrace

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func encodePart(t testing.TB, header partHeader, frames ...partFrame) []byte {
	t.Helper()
	header.Count = uint32(len(frames))
	var record bytes.Buffer
	for _, value := range []any{header, frames} {
		if err := binary.Write(&record, binary.NativeEndian, value); err != nil {
			t.Fatal(err)
		}
	}
	return record.Bytes()
}

func frames(lines ...uint32) (result []partFrame) {
	for _, line := range lines {
		result = append(result, partFrame{FirstLine: line, Offset: int32(line) * 2})
	}
	return result
}

func firstLines(sample *Sample) (lines []uint32) {
	for _, frame := range sample.Frames {
		lines = append(lines, frame.Identity.FirstLine)
	}
	return lines
}

func TestPartsOfTwoCPUsComeTogether(t *testing.T) {
	var parts assembler
	var got [][]uint32
	for _, record := range [][]byte{
		encodePart(t, partHeader{CPU: 0, Sample: 7, Part: 0}, frames(1, 2)...),
		encodePart(t, partHeader{CPU: 1, Sample: 7, Part: 0}, frames(10)...),
		encodePart(t, partHeader{CPU: 0, Sample: 7, Part: 1, Flags: partLast}, frames(3)...),
		encodePart(t, partHeader{CPU: 1, Sample: 7, Part: 1, Flags: partLast | partTooDeep}, frames(11)...),
	} {
		sample, err := parts.add(record)
		if err != nil {
			t.Fatal(err)
		}
		if sample != nil {
			got = append(got, firstLines(sample))
		}
	}
	if want := [][]uint32{{1, 2, 3}, {10, 11}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSampleWithoutOneOfItsPartsIsDropped(t *testing.T) {
	var parts assembler
	for _, record := range [][]byte{
		encodePart(t, partHeader{Sample: 1, Part: 1, Flags: partLast}, frames(9)...), // the first part is missing
		encodePart(t, partHeader{Sample: 2, Part: 0}, frames(1)...),
		encodePart(t, partHeader{Sample: 2, Part: 2, Flags: partLast}, frames(3)...), // the second part is missing
		encodePart(t, partHeader{Sample: 3, Part: 0}, frames(1)...),                  // the last part is missing
	} {
		if sample, err := parts.add(record); sample != nil || err != nil {
			t.Errorf("got %v, %v", sample, err)
		}
	}
	sample, err := parts.add(encodePart(t, partHeader{Sample: 4, Flags: partLast | partUnreadable}))
	if err != nil || sample == nil || len(sample.Frames) != 0 || sample.Truncated != Unreadable {
		t.Errorf("got %+v, %v", sample, err)
	}
}

func FuzzParts(f *testing.F) {
	f.Add(encodePart(f, partHeader{Flags: partLast}, frames(1, 2)...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, record []byte) {
		var parts assembler
		sample, err := parts.add(record)
		if sample != nil && err != nil {
			t.Errorf("got %v and %v", sample, err)
		}
	})
}

func TestPartThatIsTooShort(t *testing.T) {
	whole := encodePart(t, partHeader{Flags: partLast}, frames(1, 2)...)
	for size := range whole {
		var parts assembler
		if _, err := parts.add(whole[:size]); err == nil {
			t.Fatalf("%d of %d bytes: no error", size, len(whole))
		}
	}
}

func TestPartClaimsMoreFramesThanItHas(t *testing.T) {
	record := encodePart(t, partHeader{Flags: partLast}, frames(1)...)
	count := binary.Size(partHeader{}) - 16 - 4 // before the comm
	binary.NativeEndian.PutUint32(record[count:], 1<<31)
	var parts assembler
	if _, err := parts.add(record); err == nil {
		t.Error("no error")
	}
}

func TestSampleAsJSON(t *testing.T) {
	data, err := json.Marshal(Sample{
		Frames: []Frame{{Identity{12, 1, 0, 3, 0x9ae16a3b}, 36}}, PID: 1, TID: 2, Comm: "python3",
	})
	want := `{"frames":[{"identity":"12:1:0:3:000000009ae16a3b","offset":36}],` +
		`"pid":1,"tid":2,"comm":"python3","cpu":0,"time_ns":0}`
	if err != nil || string(data) != want {
		t.Errorf("got %s, %v, want %s", data, err, want)
	}
}

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
		"code.co_code_adaptive": 200, "bytes.ob_size": 16, "bytes.ob_sval": 32,
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
			got.FrameSize != 72 || got.BytesData != 32 || got.CodeBytecode != 200 {
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
		{"frame.localsplus", frameBlock},   // a frame too large
		{"code.linetable", codeBlock},      // a code object too large
		{"code.firstlineno", 1 << 20},      // a line outside
		{"frame.owner", 72},                // an owner outside
		{"code.argcount", 0},               // no argument count
		{"frame.instr_ptr", 65},            // a pointer too far
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
	if got, want := binary.Size(process{}), 8+26*4; got != want {
		t.Errorf("%d bytes, want %d", got, want)
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
