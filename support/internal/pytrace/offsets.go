// SPDX-License-Identifier: Apache-2.0

package pytrace

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// process is struct python_process of python_tracer.bpf.c: the address of the interpreter in one
// process, and the offsets in bytes of the fields that lead from there to the frames.
type process struct {
	Runtime           uint64
	InterpretersHead  uint32
	InterpreterNext   uint32
	InterpreterThread uint32
	ThreadNext        uint32
	ThreadNativeID    uint32
	PthreadID         uint32
	ThreadFrame       uint32
	HasCFrame         uint32
	CFrameFrame       uint32
	FrameStart        uint32
	FrameSize         uint32
	FrameCode         uint32
	FramePrevious     uint32
	FrameInstruction  uint32
	InstructionUnit   uint32
	FrameOwner        uint32
	ForeignOwner      uint32
	CodeSize          uint32
	CodeFirstLine     uint32
	CodeArguments     uint32
	CodeKeywordOnly   uint32
	CodeFlags         uint32
	CodeFile          uint32
	CodeName          uint32
	CodeLineTable     uint32
	CodeBytecode      uint32
	BytesLength       uint32
	BytesData         uint32
	TextLength        uint32
	TextState         uint32
	TextASCII         uint32
	TextData          uint32
}

// The sizes of the buffers into which the eBPF program reads frames and code objects.
const (
	frameBlock = 128 // FRAME_BLOCK
	codeBlock  = 256 // CODE_BLOCK
)

const (
	// Frames of C code came with 3.12: FRAME_OWNED_BY_CSTACK in Include/internal/pycore_frame.h.
	// In 3.14 this number is FRAME_OWNED_BY_INTERPRETER, and FRAME_OWNED_BY_CSTACK is the next one.
	ownedByCStack = 3
	noOwner       = 1 << 8 // an owner is a byte
)

// The offsets for versions that have no _Py_DebugOffsets: what offsetof() gives with the headers of
// CPython's Include/internal, on 64-bit machines, in builds without Py_TRACE_REFS.
var offsetTables = map[version]process{
	{3, 8}:  ofFrameObjects(104, 1),
	{3, 9}:  ofFrameObjects(104, 1),
	{3, 10}: ofFrameObjects(96, 2),
	{3, 11}: {
		InterpretersHead: 40, InterpreterNext: 0, InterpreterThread: 16,
		ThreadNext: 8, ThreadNativeID: 160, ThreadFrame: 56, HasCFrame: 1, CFrameFrame: 8,
		FrameCode: 32, FramePrevious: 48, FrameInstruction: 56, FrameOwner: 69,
		ForeignOwner: noOwner,
		CodeSize:     144, CodeFirstLine: 72, CodeArguments: 56, CodeKeywordOnly: 64, CodeFlags: 48,
		CodeFile: 112, CodeName: 128, CodeLineTable: 136, CodeBytecode: 184,
		BytesLength: 16, BytesData: 32,
		TextLength: 16, TextState: 32, TextASCII: 48, TextData: 72,
	},
	{3, 12}: {
		InterpretersHead: 40, InterpreterNext: 0, InterpreterThread: 72,
		ThreadNext: 8, ThreadNativeID: 144, ThreadFrame: 56, HasCFrame: 1, CFrameFrame: 0,
		FrameCode: 0, FramePrevious: 8, FrameInstruction: 56, FrameOwner: 70,
		ForeignOwner: ownedByCStack,
		CodeSize:     144, CodeFirstLine: 68, CodeArguments: 52, CodeKeywordOnly: 60, CodeFlags: 48,
		CodeFile: 112, CodeName: 128, CodeLineTable: 136, CodeBytecode: 192,
		BytesLength: 16, BytesData: 32,
		TextLength: 16, TextState: 32, TextASCII: 40, TextData: 56,
	},
}

// ofFrameObjects returns the offsets for 3.8 to 3.10. There each frame is a PyFrameObject, whose
// f_lasti counts units of this many bytes, and a thread's state has its pthread_t instead of its
// native id.
func ofFrameObjects(lastInstruction, unit uint32) process {
	return process{
		InterpretersHead: 32, InterpreterNext: 0, InterpreterThread: 8,
		ThreadNext: 8, ThreadNativeID: 176, ThreadFrame: 24,
		FrameCode: 32, FramePrevious: 24,
		FrameInstruction: lastInstruction, InstructionUnit: unit, ForeignOwner: noOwner,
		CodeSize: 128, CodeFirstLine: 40, CodeArguments: 16, CodeKeywordOnly: 24, CodeFlags: 36,
		CodeFile: 104, CodeName: 112, CodeLineTable: 120,
		BytesLength: 16, BytesData: 32,
		TextLength: 16, TextState: 32, TextASCII: 48, TextData: 72,
	}
}

// debugLayouts has the fields of _Py_DebugOffsets, which is the first field of _PyRuntime since 3.13,
// behind its cookie: a line for each group, with the names of its fields of 8 bytes, up to the last
// group that is read here. See Include/internal/pycore_runtime.h of 3.13, and
// Include/internal/pycore_debug_offsets.h of 3.14.
var debugLayouts = map[version]string{
	{3, 13}: `
		build version free_threaded
		runtime size finalizing interpreters_head
		interpreter size id next threads_head gc imports_modules sysdict builtins ceval_gil ` +
		`gil_runtime_state gil_runtime_state_enabled gil_runtime_state_locked gil_runtime_state_holder
		thread size prev next interp current_frame thread_id native_thread_id datastack_chunk status
		frame size previous executable instr_ptr localsplus owner
		code size filename name qualname linetable firstlineno argcount localsplusnames ` +
		`localspluskinds co_code_adaptive
		object size ob_type
		type size tp_name tp_repr tp_flags
		tuple size ob_item ob_size
		list size ob_item ob_size
		dict size ma_keys ma_values
		float size ob_fval
		long size lv_tag ob_digit
		bytes size ob_size ob_sval
		unicode size state length asciiobject_size`,
	{3, 14}: `
		build version free_threaded
		runtime size finalizing interpreters_head
		interpreter size id next threads_head threads_main gc imports_modules sysdict builtins ` +
		`ceval_gil gil_runtime_state gil_runtime_state_enabled gil_runtime_state_locked ` +
		`gil_runtime_state_holder code_object_generation tlbc_generation
		thread size prev next interp current_frame thread_id native_thread_id datastack_chunk status
		frame size previous executable instr_ptr localsplus owner stackpointer tlbc_index
		code size filename name qualname linetable firstlineno argcount localsplusnames ` +
		`localspluskinds co_code_adaptive co_tlbc
		object size ob_type
		type size tp_name tp_repr tp_flags
		tuple size ob_item ob_size
		list size ob_item ob_size
		set size used table mask
		dict size ma_keys ma_values
		float size ob_fval
		long size lv_tag ob_digit
		bytes size ob_size ob_sval
		unicode size state length asciiobject_size`,
}

const debugCookie = "xdebugpy"

// debugFields returns the names of the fields of a layout, such as "thread.next", in their order.
func debugFields(layout string) (names []string) {
	for line := range strings.Lines(layout) {
		if words := strings.Fields(line); len(words) > 0 {
			for _, field := range words[1:] {
				names = append(names, words[0]+"."+field)
			}
		}
	}
	return names
}

// debugOffsetsSize returns how many bytes of _Py_DebugOffsets are read.
func debugOffsetsSize(layout string) int { return len(debugCookie) + 8*len(debugFields(layout)) }

// parseDebugOffsets reads _Py_DebugOffsets with a layout of debugLayouts. It returns an error for
// impossible values.
func parseDebugOffsets(data []byte, layout string) (process, error) {
	if size := debugOffsetsSize(layout); len(data) < size {
		return process{}, fmt.Errorf("_Py_DebugOffsets: %d bytes of %d", len(data), size)
	}
	if cookie := string(data[:len(debugCookie)]); cookie != debugCookie {
		return process{}, fmt.Errorf("_Py_DebugOffsets begins with %q, not %q", cookie, debugCookie)
	}
	offsets := map[string]uint32{}
	for i, name := range debugFields(layout) {
		value := binary.LittleEndian.Uint64(data[len(debugCookie)+8*i:])
		offsets[name] = uint32(min(value, math.MaxUint32)) // check refuses that large ones
	}
	if offsets["build.free_threaded"] != 0 {
		return process{}, fmt.Errorf("%w: it is a free-threaded build", ErrUnsupported)
	}
	// Some fields of the code object are not in _Py_DebugOffsets, but next to one that is. Since
	// 3.12 the order is co_flags, co_argcount, co_posonlyargcount, co_kwonlyargcount, each an int.
	arguments := offsets["code.argcount"]
	p := process{
		InterpretersHead:  offsets["runtime.interpreters_head"],
		InterpreterNext:   offsets["interpreter.next"],
		InterpreterThread: offsets["interpreter.threads_head"],
		ThreadNext:        offsets["thread.next"],
		ThreadNativeID:    offsets["thread.native_thread_id"],
		ThreadFrame:       offsets["thread.current_frame"],
		FrameCode:         offsets["frame.executable"],
		FramePrevious:     offsets["frame.previous"],
		FrameInstruction:  offsets["frame.instr_ptr"],
		FrameOwner:        offsets["frame.owner"],
		ForeignOwner:      ownedByCStack,
		CodeSize:          offsets["code.linetable"] + 8,
		CodeFirstLine:     offsets["code.firstlineno"],
		CodeArguments:     arguments,
		CodeKeywordOnly:   arguments + 8,
		CodeFlags:         arguments - 4,
		CodeFile:          offsets["code.filename"],
		CodeName:          offsets["code.qualname"],
		CodeLineTable:     offsets["code.linetable"],
		CodeBytecode:      offsets["code.co_code_adaptive"],
		BytesLength:       offsets["bytes.ob_size"],
		BytesData:         offsets["bytes.ob_sval"],
		TextLength:        offsets["unicode.length"],
		TextState:         offsets["unicode.state"],
		TextASCII:         offsets["unicode.asciiobject_size"],
		// A PyCompactUnicodeObject adds utf8_length and utf8 to a PyASCIIObject.
		TextData: offsets["unicode.asciiobject_size"] + 16,
	}
	return p, p.check()
}

// setFrameRange sets which bytes of a frame are read: those of the three fields that each frame needs.
// An address may lack its highest byte, which is 0: up to 63 bytes, kernels copy without the
// instruction `rep movsb`, of which an emulated processor makes a loop over the bytes.
func (p *process) setFrameRange() {
	instruction := p.FrameInstruction + 7
	if p.InstructionUnit != 0 {
		instruction = p.FrameInstruction + 4
	}
	p.FrameStart = min(p.FrameCode, p.FramePrevious, p.FrameInstruction)
	p.FrameSize = max(p.FrameCode+8, p.FramePrevious+8, instruction) - p.FrameStart
}

// check returns an error for offsets that are outside of what the eBPF program reads.
func (p *process) check() error {
	within := func(size, width uint32, offsets ...uint32) bool {
		for _, offset := range offsets {
			if offset > size || offset+width > size || offset%width != 0 {
				return false
			}
		}
		return true
	}
	frame := within(frameBlock, 8, p.FrameCode, p.FramePrevious, p.FrameInstruction) &&
		within(frameBlock, 1, p.FrameOwner)
	code := p.CodeSize < codeBlock && within(p.CodeSize, 4,
		p.CodeFirstLine, p.CodeArguments, p.CodeKeywordOnly, p.CodeFlags) &&
		within(p.CodeSize, 8, p.CodeFile, p.CodeName, p.CodeLineTable)
	if !frame || !code {
		return fmt.Errorf("impossible offsets: %+v", *p)
	}
	return nil
}
