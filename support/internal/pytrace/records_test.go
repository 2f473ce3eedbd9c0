// SPDX-License-Identifier: Apache-2.0

//go:build !integration

package pytrace

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func encode(t testing.TB, values ...any) []byte {
	t.Helper()
	var record bytes.Buffer
	for _, value := range values {
		if err := binary.Write(&record, binary.NativeEndian, value); err != nil {
			t.Fatal(err)
		}
	}
	return record.Bytes()
}

// The str "f" of 3.12: its kind is 1, and it is compact and ASCII.
const asciiState = (1 | 8 | textASCII) << 2

func rawTextOf(text string) rawText {
	raw := rawText{Length: uint32(len(text)), State: asciiState}
	raw.Size = uint32(copy(raw.Bytes[:], text))
	return raw
}

func encodeCode(t testing.TB, number, line uint32, table string) []byte {
	return encode(t, codeRecord{
		Kind: recordCode, Number: number, TGID: 5, FirstLine: line, Flags: 3 | ignoredFlags,
		TableSize: uint32(len(table)), TableLength: uint64(len(table)),
		File: rawTextOf("/a.py"), Name: rawTextOf("f"),
	}, []byte(table))
}

func encodeParts(t testing.TB, hash uint64, frames ...partFrame) []byte {
	return encode(t, partRecord{recordPart, uint32(len(frames)), hash}, frames)
}

func encodeSample(t testing.TB, flags uint32, hashes ...uint64) []byte {
	return encode(t, sampleRecord{
		Kind: recordSample, Count: uint32(len(hashes)), TGID: 5, TID: 6, CPU: 1, Time: 9,
		Flags: flags, Comm: [16]byte{'p', 'y'},
	}, hashes)
}

// newRecords knows a process with the offsets of 3.12, and has read these records.
func newRecords(t testing.TB, read ...[]byte) *records {
	t.Helper()
	known := &records{processes: map[uint32]*tracedProcess{5: {offsets: offsetTables[version{3, 12}]}}}
	for _, record := range read {
		if sample, err := known.add(record); sample != nil || err != nil {
			t.Fatalf("got %v, %v", sample, err)
		}
	}
	return known
}

func TestSamplesReferToTheirParts(t *testing.T) {
	known := newRecords(t,
		encodeCode(t, 1, 10, "ab"), encodeCode(t, 2, 20, "cd"),
		encodeParts(t, 7, partFrame{1, 2}, partFrame{2, 4}), encodeParts(t, 8, partFrame{2, 6}),
		encodeParts(t, 7, partFrame{1, 2}, partFrame{2, 4}), // another CPU has sent it, too
	)
	first, err := known.add(encodeSample(t, 0, 7, 8))
	if err != nil {
		t.Fatal(err)
	}
	second, err := known.add(encodeSample(t, sampleTooDeep, 8, 8))
	if err != nil {
		t.Fatal(err)
	}
	var offsets []int32
	for _, frame := range first.Frames() {
		offsets = append(offsets, frame.Offset)
	}
	if !slices.Equal(offsets, []int32{2, 4, 6}) || first.PID != 5 || first.TID != 6 ||
		first.Comm != "py" || first.CPU != 1 || first.Time != 9 || first.Truncated != "" {
		t.Errorf("got %v of %+v", offsets, first)
	}
	if second.Parts[0] != first.Parts[1] || second.Truncated != TooDeep {
		t.Errorf("got %+v", second)
	}
	code := first.Frames()[0].Code
	want := Identity{10, 0, 0, 3, TableHash(2, []byte("ab"))}
	if code.Identity != want || code.File != "/a.py" || code.Name != "f" || string(code.Table) != "ab" {
		t.Errorf("got %+v, want %+v", code, want)
	}
	empty, err := known.add(encodeSample(t, sampleUnreadable))
	if err != nil || len(empty.Frames()) != 0 || empty.Truncated != Unreadable {
		t.Errorf("got %+v, %v", empty, err)
	}
}

func TestRecordsThatAreTooShort(t *testing.T) {
	for _, whole := range [][]byte{
		encodeCode(t, 1, 10, "ab"), encodeParts(t, 7, partFrame{1, 2}), encodeSample(t, 0, 7),
	} {
		for size := range whole {
			known := newRecords(t, encodeCode(t, 1, 10, "ab"), encodeParts(t, 7, partFrame{1, 2}))
			if sample, err := known.add(whole[:size]); err == nil {
				t.Fatalf("%d of %d bytes: got %v, no error", size, len(whole), sample)
			}
		}
	}
}

func TestRecordsThatReferToNothing(t *testing.T) {
	for name, record := range map[string][]byte{
		"a code object":   encodeParts(t, 7, partFrame{3, 2}),
		"a part":          encodeSample(t, 0, 9),
		"its own frames":  encode(t, partRecord{recordPart, framesPerPart + 1, 7}),
		"its own parts":   encode(t, sampleRecord{Kind: recordSample, Count: 1 << 31}),
		"an unknown kind": encode(t, uint32(3)),
	} {
		if sample, err := newRecords(t).add(record); err == nil {
			t.Errorf("%s: got %v, no error", name, sample)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(encodeCode(f, 1, 10, "ab"))
	f.Add(encodeParts(f, 7, partFrame{1, 2}))
	f.Add(encodeSample(f, 0, 7))
	f.Fuzz(func(t *testing.T, record []byte) {
		known := newRecords(t, encodeCode(t, 1, 10, "ab"), encodeParts(t, 7, partFrame{1, 2}))
		if sample, err := known.add(record); sample != nil && err != nil {
			t.Errorf("got %v and %v", sample, err)
		}
	})
}

// memory is a process's memory from address 0 on.
type memory []byte

func (m memory) ReadAt(data []byte, offset int64) (int, error) {
	return bytes.NewReader(m).ReadAt(data, offset)
}

func TestWhatIsTooLongForARecordIsReadFromTheProcess(t *testing.T) {
	offsets := offsetTables[version{3, 12}]
	long := strings.Repeat("0123456789", 40)
	process := &tracedProcess{
		offsets: offsets, memory: memory(strings.Repeat("x", int(offsets.TextASCII)) + long),
	}
	raw := rawTextOf(long)
	if got := process.text(&raw); got != long {
		t.Errorf("text: got %q", got)
	}
	raw.Bytes[0]++ // meanwhile, the memory was used for something else
	if got := process.text(&raw); len(got) != len(raw.Bytes) {
		t.Errorf("changed text: got %q", got)
	}
	process.memory = memory(strings.Repeat("x", int(offsets.BytesData)) + long)
	if got := process.table(0, 400, []byte("012")); string(got) != long {
		t.Errorf("table: got %q", got)
	}
	for name, other := range map[string]memory{"changed": memory(make([]byte, 500)), "ended": nil} {
		process.memory = other
		if got := process.table(0, 400, []byte("012")); string(got) != "012" {
			t.Errorf("table of a process that has %s: got %q", name, got)
		}
	}
}

func TestWhatWasNotInMemoryIsReadFromTheProcess(t *testing.T) {
	offsets := offsetTables[version{3, 12}]
	object := make([]byte, offsets.TextASCII)
	object[offsets.TextLength] = 3
	binary.NativeEndian.PutUint32(object[offsets.TextState:], asciiState)
	process := &tracedProcess{offsets: offsets, memory: memory(append(object, "abc"...))}
	if got := process.text(&rawText{}); got != "abc" {
		t.Errorf("got %q", got)
	}
	process.memory = nil
	if got := process.text(&rawText{}); got != "" {
		t.Errorf("without its memory: got %q", got)
	}
}

func TestTextOfEachKind(t *testing.T) {
	for _, test := range []struct {
		kind uint32
		data []byte
		want string
	}{
		{1, []byte("caf\xe9"), "café"},
		{2, encode(t, []uint16{'a', 0x20ac}), "a€"},
		{4, encode(t, []uint32{'a', 0x1f40d}), "a🐍"},
		{4, []byte{1, 2, 3}, ""},
		{0, []byte("x"), ""},
		{7, []byte("x"), ""},
	} {
		if got := decodeText(test.data, test.kind); got != test.want {
			t.Errorf("kind %d: got %q, want %q", test.kind, got, test.want)
		}
	}
}

func TestFrameAsJSON(t *testing.T) {
	code := &Code{Identity{12, 1, 0, 3, 0x9ae16a3b}, "/a.py", "f", []byte{0x80, 1}}
	data, err := json.Marshal(Frame{code, 36})
	want := `{"identity":"12:1:0:3:000000009ae16a3b","offset":36,` +
		`"file":"/a.py","function":"f","table":"8001"}`
	if err != nil || string(data) != want {
		t.Errorf("got %s, %v, want %s", data, err, want)
	}
}

// The eBPF program reads up to 63 bytes without a loop over bytes.
func TestFrameRange(t *testing.T) {
	for v, want := range map[version][2]uint32{
		{3, 8}: {24, 84}, {3, 10}: {24, 76}, {3, 11}: {32, 31}, {3, 12}: {0, 63},
	} {
		process := offsetTables[v]
		process.setFrameRange()
		if got := [2]uint32{process.FrameStart, process.FrameSize}; got != want {
			t.Errorf("%v: got %v, want %v", v, got, want)
		}
	}
}
