// SPDX-License-Identifier: Apache-2.0

package pytrace

import (
	"encoding/binary"
	"fmt"
)

// process is struct python_process of python_tracer.bpf.c: where one process has its interpreter,
// and the offsets in bytes of the fields that lead from there to its frames.
type process struct {
	Runtime           uint64
	InterpretersHead  uint32
	InterpreterNext   uint32
	InterpreterThread uint32
	ThreadNext        uint32
	ThreadNativeID    uint32
	ThreadFrame       uint32
	HasCFrame         uint32
	CFrameFrame       uint32
	FrameSize         uint32
	FrameCode         uint32
	FramePrevious     uint32
	FrameInstruction  uint32
	FrameOwner        uint32
	ForeignOwner      uint32
	CodeSize          uint32
	CodeFirstLine     uint32
	CodeArguments     uint32
	CodeKeywordOnly   uint32
	CodeFlags         uint32
	CodeLineTable     uint32
	CodeBytecode      uint32
	BytesLength       uint32
	BytesData         uint32
	_                 uint32
}

// The sizes of the blocks that the program reads frames and code objects into.
const (
	frameBlock = 128 // FRAME_BLOCK
	codeBlock  = 256 // CODE_BLOCK
)

const (
	// Frames of C code came with 3.12: FRAME_OWNED_BY_CSTACK in Include/internal/pycore_frame.h.
	ownedByCStack = 3
	noOwner       = 1 << 8 // an owner is a byte
)

// The offsets of the versions that do not tell them, as offsetof() gives them with the headers of
// CPython's Include/internal, on 64-bit machines, in builds without Py_TRACE_REFS.
var offsetTables = map[version]process{
	{3, 11}: {
		InterpretersHead: 40, InterpreterNext: 0, InterpreterThread: 16,
		ThreadNext: 8, ThreadNativeID: 160, ThreadFrame: 56, HasCFrame: 1, CFrameFrame: 8,
		FrameSize: 72, FrameCode: 32, FramePrevious: 48, FrameInstruction: 56, FrameOwner: 69,
		ForeignOwner: noOwner,
		CodeSize:     144, CodeFirstLine: 72, CodeArguments: 56, CodeKeywordOnly: 64, CodeFlags: 48,
		CodeLineTable: 136, CodeBytecode: 184,
		BytesLength: 16, BytesData: 32,
	},
	{3, 12}: {
		InterpretersHead: 40, InterpreterNext: 0, InterpreterThread: 72,
		ThreadNext: 8, ThreadNativeID: 144, ThreadFrame: 56, HasCFrame: 1, CFrameFrame: 0,
		FrameSize: 72, FrameCode: 0, FramePrevious: 8, FrameInstruction: 56, FrameOwner: 70,
		ForeignOwner: ownedByCStack,
		CodeSize:     144, CodeFirstLine: 68, CodeArguments: 52, CodeKeywordOnly: 60, CodeFlags: 48,
		CodeLineTable: 136, CodeBytecode: 192,
		BytesLength: 16, BytesData: 32,
	},
}

// debugOffsets is _Py_DebugOffsets of CPython 3.13, with which _PyRuntime begins: see
// Include/internal/pycore_runtime.h there. Later versions have further fields in between.
type debugOffsets struct {
	Cookie       [8]byte
	Version      uint64
	FreeThreaded uint64
	Runtime      struct{ Size, Finalizing, InterpretersHead uint64 }
	Interpreter  struct {
		Size, ID, Next, ThreadsHead, GC, ImportsModules, Sysdict, Builtins, CevalGIL,
		GILRuntimeState, GILRuntimeStateEnabled, GILRuntimeStateLocked, GILRuntimeStateHolder uint64
	}
	Thread struct {
		Size, Prev, Next, Interp, CurrentFrame, ThreadID, NativeThreadID, DatastackChunk,
		Status uint64
	}
	Frame struct{ Size, Previous, Executable, InstrPtr, Localsplus, Owner uint64 }
	Code  struct {
		Size, Filename, Name, Qualname, Linetable, Firstlineno, Argcount, Localsplusnames,
		Localspluskinds, CodeAdaptive uint64
	}
	Object  struct{ Size, Type uint64 }
	Type    struct{ Size, Name, Repr, Flags uint64 }
	Tuple   struct{ Size, Item, ObSize uint64 }
	List    struct{ Size, Item, ObSize uint64 }
	Dict    struct{ Size, Keys, Values uint64 }
	Float   struct{ Size, Value uint64 }
	Long    struct{ Size, Tag, Digit uint64 }
	Bytes   struct{ Size, ObSize, ObSval uint64 }
	Unicode struct{ Size, State, Length, ASCIISize uint64 }
	GC      struct{ Size, Collecting uint64 }
}

const debugCookie = "xdebugpy"

var debugOffsetsSize = binary.Size(debugOffsets{})

// parseDebugOffsets reads what a 3.13 says of itself, and refuses what can't be.
func parseDebugOffsets(data []byte) (process, error) {
	var told debugOffsets
	if _, err := binary.Decode(data, binary.LittleEndian, &told); err != nil {
		return process{}, fmt.Errorf("_Py_DebugOffsets: %w", err)
	}
	if cookie := string(told.Cookie[:]); cookie != debugCookie {
		return process{}, fmt.Errorf("_Py_DebugOffsets begins with %q, not %q", cookie, debugCookie)
	}
	if told.FreeThreaded != 0 {
		return process{}, fmt.Errorf("%w: a free-threaded build", ErrUnsupported)
	}
	// Numbers of the code object that are not told stand beside one that is, since 3.12: co_flags,
	// co_argcount, co_posonlyargcount, co_kwonlyargcount, each an int.
	arguments := uint32(told.Code.Argcount)
	made := process{
		InterpretersHead:  uint32(told.Runtime.InterpretersHead),
		InterpreterNext:   uint32(told.Interpreter.Next),
		InterpreterThread: uint32(told.Interpreter.ThreadsHead),
		ThreadNext:        uint32(told.Thread.Next),
		ThreadNativeID:    uint32(told.Thread.NativeThreadID),
		ThreadFrame:       uint32(told.Thread.CurrentFrame),
		FrameSize:         uint32(told.Frame.Localsplus),
		FrameCode:         uint32(told.Frame.Executable),
		FramePrevious:     uint32(told.Frame.Previous),
		FrameInstruction:  uint32(told.Frame.InstrPtr),
		FrameOwner:        uint32(told.Frame.Owner),
		ForeignOwner:      ownedByCStack,
		CodeSize:          uint32(told.Code.Linetable) + 8,
		CodeFirstLine:     uint32(told.Code.Firstlineno),
		CodeArguments:     arguments,
		CodeKeywordOnly:   arguments + 8,
		CodeFlags:         arguments - 4,
		CodeLineTable:     uint32(told.Code.Linetable),
		CodeBytecode:      uint32(told.Code.CodeAdaptive),
		BytesLength:       uint32(told.Bytes.ObSize),
		BytesData:         uint32(told.Bytes.ObSval),
	}
	return made, made.check()
}

// check refuses offsets that lead out of what the program reads.
func (p *process) check() error {
	within := func(size, block uint32, width uint32, offsets ...uint32) bool {
		for _, offset := range offsets {
			if offset > size || offset+width > size {
				return false
			}
		}
		return size < block
	}
	frame := within(p.FrameSize, frameBlock, 8, p.FrameCode, p.FramePrevious, p.FrameInstruction) &&
		within(p.FrameSize, frameBlock, 1, p.FrameOwner)
	code := within(p.CodeSize, codeBlock, 4,
		p.CodeFirstLine, p.CodeArguments, p.CodeKeywordOnly, p.CodeFlags) &&
		within(p.CodeSize, codeBlock, 8, p.CodeLineTable)
	if !frame || !code {
		return fmt.Errorf("offsets that can't be: %+v", *p)
	}
	return nil
}
