// SPDX-License-Identifier: Apache-2.0

package pytrace

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"sync"
	"time"
	"unicode/utf16"
)

// An Identity identifies a code object: see bytecode-lines' identity.py.
type Identity struct {
	FirstLine, Arguments, KeywordOnly, Flags uint32
	Hash                                     uint64
}

// String returns the text form that samples have.
func (i Identity) String() string {
	return fmt.Sprintf("%d:%d:%d:%d:%016x", i.FirstLine, i.Arguments, i.KeywordOnly, i.Flags, i.Hash)
}

// ignoredFlags are bits of co_flags that CPython changes at run time: CO_ITERABLE_COROUTINE.
const ignoredFlags = 0x100

// TableHash returns the hash of a line table that is a part of an [Identity]. Of the table, only the
// first 64 bytes are needed.
func TableHash(length uint64, table []byte) uint64 {
	var hashed [4 + 64]byte
	binary.LittleEndian.PutUint32(hashed[:], uint32(length))
	copy(hashed[4:], table)
	hash := fnv.New64a()
	hash.Write(hashed[:])
	return hash.Sum64()
}

// A Code is a code object of a process.
type Code struct {
	Identity Identity
	File     string // co_filename, or empty if it can't be read
	Name     string // co_qualname, before 3.11 co_name, or empty if it can't be read
	Table    []byte // the line table, or nil if it can't be read as a whole
}

// A Frame is a frame of a stack.
type Frame struct {
	Code   *Code
	Offset int32 // of the last instruction, in bytes; see bytecode-lines' samples.py
}

// MarshalJSON returns the form that bytecode-lines reads.
func (f Frame) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Identity string `json:"identity"`
		Offset   int32  `json:"offset"`
		File     string `json:"file,omitempty"`
		Function string `json:"function,omitempty"`
		Table    string `json:"table,omitempty"`
	}{
		f.Code.Identity.String(), f.Offset, f.Code.File, f.Code.Name, hex.EncodeToString(f.Code.Table),
	})
}

// A Part is some frames of a stack that follow each other, the innermost first. Equal parts of the
// stacks of a process are one.
type Part struct{ Frames []Frame }

// A Sample is the stack of a thread at one moment.
type Sample struct {
	Parts     []*Part // the innermost first
	PID       uint32
	TID       uint32
	Comm      string
	CPU       uint32
	Time      time.Duration // of CLOCK_MONOTONIC
	Truncated string
}

// Frames returns the frames of all parts, the innermost first.
func (s *Sample) Frames() (frames []Frame) {
	for _, part := range s.Parts {
		frames = append(frames, part.Frames...)
	}
	return frames
}

// Reasons why the outer frames of a sample are missing.
const (
	Unreadable = "unreadable"
	TooDeep    = "too deep"
)

// enum record_kind
const (
	recordCode = iota
	recordPart
	recordSample
	recordProcess
)

// enum sample_flag
const (
	sampleUnreadable = 1
	sampleTooDeep    = 2
)

// Limits of what records hold.
const (
	framesPerPart = 64      // FRAMES_PER_PART
	maxParts      = 512     // MAX_PARTS
	maxText       = 1 << 16 // characters of a name or path that user space reads
	maxTable      = 1 << 24 // bytes of a line table that user space reads
)

// rawText is struct python_text.
type rawText struct {
	Object              uint64
	Length, State, Size uint32
	_                   uint32
	Bytes               [256]byte // TEXT_BLOCK
}

// codeRecord is struct code_record, without the bytes of the table.
type codeRecord struct {
	Kind, Number, TGID, FirstLine, Arguments, KeywordOnly, Flags, TableSize uint32
	Table, TableLength                                                      uint64
	File, Name                                                              rawText
}

// partRecord is struct part_record, without its frames.
type partRecord struct {
	Kind, Count uint32
	Hash        uint64
}

// partFrame is struct python_frame.
type partFrame struct {
	Code   uint32
	Offset int32
}

// sampleRecord is struct sample_record, without its parts.
type sampleRecord struct {
	Kind, Count           uint32
	Time                  uint64
	CPU, TGID, TID, Flags uint32
	Comm                  [16]byte
}

// enum process_event
const (
	processForked = iota + 1
	processExecuted
	processExited
)

// processRecord is struct process_record.
type processRecord struct {
	Kind, Event, TGID, Parent, Sampled, _ uint32
	Comm                                  [16]byte
}

// records remembers the code objects and the parts of stacks that samples refer to.
type records struct {
	codes map[uint32]*Code
	parts map[uint64]*Part

	mutex     sync.Mutex // of the field below
	processes map[uint32]*tracedProcess

	family func(processRecord) // told what happens to processes, if it is set
}

// A tracedProcess is where the rest of what is too long for a record, or was not in memory, can be
// read.
type tracedProcess struct {
	offsets process
	memory  io.ReaderAt // nil if it can't be opened
	close   func() error
}

// trace remembers the offsets of a process.
func (r *records) trace(pid uint32, offsets process) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.processes == nil {
		r.processes = map[uint32]*tracedProcess{}
	}
	traced := &tracedProcess{offsets: offsets}
	// Reading from a process that has ended fails.
	if memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid)); err == nil {
		traced.memory, traced.close = memory, memory.Close
	}
	r.processes[pid] = traced
}

// forget closes the memory of a process that has ended, or executes another program.
func (r *records) forget(pid uint32) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if traced := r.processes[pid]; traced != nil && traced.memory != nil {
		traced.close()
		traced.memory = nil
	}
}

// process returns a process that is traced. If it is not known, nothing can be read from it.
func (r *records) process(pid uint32) *tracedProcess {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if found := r.processes[pid]; found != nil {
		return found
	}
	return &tracedProcess{}
}

// add adds a record, and returns the sample if it is one.
func (r *records) add(record []byte) (*Sample, error) {
	if r.codes == nil {
		r.codes, r.parts = map[uint32]*Code{}, map[uint64]*Part{}
	}
	if len(record) < 4 {
		return nil, fmt.Errorf("a record of %d bytes", len(record))
	}
	switch kind := binary.NativeEndian.Uint32(record); kind {
	case recordCode:
		return nil, r.addCode(record)
	case recordPart:
		return nil, r.addPart(record)
	case recordSample:
		return r.sample(record)
	case recordProcess:
		return nil, r.addProcess(record)
	default:
		return nil, fmt.Errorf("a record of the unknown kind %d", kind)
	}
}

// decode reads the fixed part of a record, and returns the rest.
func decode(record []byte, what string, fixed any) ([]byte, error) {
	size, err := binary.Decode(record, binary.NativeEndian, fixed)
	if err != nil {
		return nil, fmt.Errorf("%s of %d bytes: %w", what, len(record), err)
	}
	return record[size:], nil
}

func (r *records) addCode(record []byte) error {
	var code codeRecord
	table, err := decode(record, "a code object", &code)
	if err != nil {
		return err
	}
	if int(code.TableSize) > len(table) {
		return fmt.Errorf("a code object with %d bytes of its line table of %d", len(table), code.TableSize)
	}
	process := r.process(code.TGID)
	if code.TableLength == 0 { // it was not in memory
		code.TableLength = process.number(code.Table + uint64(process.offsets.BytesLength))
	}
	table = process.table(code.Table, code.TableLength, table[:code.TableSize])
	known := &Code{
		Identity: Identity{
			FirstLine: code.FirstLine, Arguments: code.Arguments, KeywordOnly: code.KeywordOnly,
			Flags: code.Flags &^ ignoredFlags, Hash: TableHash(code.TableLength, table),
		},
		File: process.text(&code.File), Name: process.text(&code.Name),
	}
	if uint64(len(table)) == code.TableLength {
		known.Table = table
	}
	r.codes[code.Number] = known
	return nil
}

func (r *records) addPart(record []byte) error {
	var part partRecord
	rest, err := decode(record, "a part of a stack", &part)
	if err != nil {
		return err
	}
	if part.Count > framesPerPart {
		return fmt.Errorf("a part of a stack with %d frames", part.Count)
	}
	frames := make([]partFrame, part.Count)
	if _, err := decode(rest, fmt.Sprintf("a part of a stack with %d frames", part.Count), frames); err != nil {
		return err
	}
	added := &Part{make([]Frame, 0, part.Count)}
	for _, frame := range frames {
		code := r.codes[frame.Code]
		if code == nil {
			return fmt.Errorf("a frame of the unknown code object %d", frame.Code)
		}
		added.Frames = append(added.Frames, Frame{code, frame.Offset})
	}
	if r.parts[part.Hash] == nil { // two CPUs may send the same part
		r.parts[part.Hash] = added
	}
	return nil
}

func (r *records) sample(record []byte) (*Sample, error) {
	var header sampleRecord
	rest, err := decode(record, "a sample", &header)
	if err != nil {
		return nil, err
	}
	if header.Count > maxParts {
		return nil, fmt.Errorf("a sample of %d parts", header.Count)
	}
	hashes := make([]uint64, header.Count)
	if _, err := decode(rest, fmt.Sprintf("a sample of %d parts", header.Count), hashes); err != nil {
		return nil, err
	}
	comm, _, _ := bytes.Cut(header.Comm[:], []byte{0})
	sample := &Sample{
		Parts: make([]*Part, 0, header.Count),
		PID:   header.TGID, TID: header.TID, Comm: string(comm), CPU: header.CPU,
		Time: time.Duration(header.Time),
	}
	for _, hash := range hashes {
		part := r.parts[hash]
		if part == nil {
			return nil, fmt.Errorf("a sample with the unknown part %016x", hash)
		}
		sample.Parts = append(sample.Parts, part)
	}
	switch {
	case header.Flags&sampleUnreadable != 0:
		sample.Truncated = Unreadable
	case header.Flags&sampleTooDeep != 0:
		sample.Truncated = TooDeep
	}
	return sample, nil
}

func (r *records) addProcess(record []byte) error {
	var event processRecord
	if _, err := decode(record, "an event of a process", &event); err != nil {
		return err
	}
	switch event.Event {
	case processForked:
		if event.Sampled != 0 {
			r.trace(event.TGID, r.process(event.Parent).offsets)
		}
	case processExecuted, processExited:
		r.forget(event.TGID)
	}
	if r.family != nil {
		r.family(event)
	}
	return nil
}

// read returns bytes of the process's memory, or nil if they can't be read.
func (t *tracedProcess) read(address, size uint64) []byte {
	if t.memory == nil {
		return nil
	}
	data := make([]byte, size)
	if _, err := t.memory.ReadAt(data, int64(address)); err != nil {
		return nil
	}
	return data
}

// number returns a number of the process's memory, or 0 if it can't be read.
func (t *tracedProcess) number(address uint64) uint64 {
	data := t.read(address, 8)
	if data == nil {
		return 0
	}
	return binary.NativeEndian.Uint64(data)
}

// table returns a line table of which the first bytes are known: the whole one if it can be read.
func (t *tracedProcess) table(object, length uint64, first []byte) []byte {
	if uint64(len(first)) < length && length <= maxTable {
		whole := t.read(object+uint64(t.offsets.BytesData), length)
		// Meanwhile, the memory may be used for something else.
		if whole != nil && bytes.HasPrefix(whole, first) {
			return whole
		}
	}
	return bytes.Clone(first)
}

// Bits of the state of a str, from where its kind begins: behind the 2 bits of "interned", which has 16
// bits in some releases of 3.14. See Include/cpython/unicodeobject.h.
const (
	textKindMask = 7 // the bytes of a character: 1, 2 or 4
	textASCII    = 16
)

// text returns a str as far as it can be read.
func (t *tracedProcess) text(raw *rawText) string {
	if raw.State == 0 { // it was not in memory
		raw.Length = uint32(t.number(raw.Object + uint64(t.offsets.TextLength)))
		raw.State = uint32(t.number(raw.Object + uint64(t.offsets.TextState)))
	}
	state := raw.State >> 2
	if state&textKindMask == 0 {
		state = raw.State >> 16
	}
	kind, at := state&textKindMask, t.offsets.TextData
	if state&textASCII != 0 {
		at = t.offsets.TextASCII
	}
	data := raw.Bytes[:min(int(raw.Size), len(raw.Bytes))]
	if whole := uint64(raw.Length) * uint64(kind); uint64(len(data)) < whole && raw.Length <= maxText {
		if read := t.read(raw.Object+uint64(at), whole); read != nil && bytes.HasPrefix(read, data) {
			data = read
		}
	}
	return decodeText(data, kind)
}

// decodeText decodes the characters of a str, of kind bytes each.
func decodeText(data []byte, kind uint32) string {
	switch kind {
	case 1: // Latin-1
		runes := make([]rune, 0, len(data))
		for _, char := range data {
			runes = append(runes, rune(char))
		}
		return string(runes)
	case 2: // UCS-2, in which surrogates stand for bytes that are not UTF-8
		units := make([]uint16, len(data)/2)
		binary.Decode(data[:len(units)*2], binary.NativeEndian, units)
		return string(utf16.Decode(units))
	case 4: // UCS-4
		runes := make([]rune, len(data)/4)
		binary.Decode(data[:len(runes)*4], binary.NativeEndian, runes)
		return string(runes)
	}
	return ""
}
