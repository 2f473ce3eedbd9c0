// SPDX-License-Identifier: Apache-2.0

package pytrace

import (
	"encoding/binary"
	"fmt"
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

// The sizes of the buffers into which the eBPF program reads frames and code objects.
const (
	frameBlock = 128 // FRAME_BLOCK
	codeBlock  = 256 // CODE_BLOCK
)

const (
	// Frames of C code came with 3.12: FRAME_OWNED_BY_CSTACK in Include/internal/pycore_frame.h.
	ownedByCStack = 3
	noOwner       = 1 << 8 // an owner is a byte
)

// The offsets for versions that have no _Py_DebugOffsets: what offsetof() gives with the headers of
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

// debugOffsets is _Py_DebugOffsets of CPython 3.13, the first field of _PyRuntime (see
// Include/internal/pycore_runtime.h). Later versions have further fields in between.
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

// parseDebugOffsets reads the _Py_DebugOffsets of a CPython 3.13. It returns an error for
// impossible values.
func parseDebugOffsets(data []byte) (process, error) {
	var offsets debugOffsets
	if _, err := binary.Decode(data, binary.LittleEndian, &offsets); err != nil {
		return process{}, fmt.Errorf("_Py_DebugOffsets: %w", err)
	}
	if cookie := string(offsets.Cookie[:]); cookie != debugCookie {
		return process{}, fmt.Errorf("_Py_DebugOffsets begins with %q, not %q", cookie, debugCookie)
	}
	if offsets.FreeThreaded != 0 {
		return process{}, fmt.Errorf("%w: a free-threaded build", ErrUnsupported)
	}
	// Some fields of the code object are not in _Py_DebugOffsets, but next to one that is. Since
	// 3.12 the order is co_flags, co_argcount, co_posonlyargcount, co_kwonlyargcount, each an int.
	arguments := uint32(offsets.Code.Argcount)
	p := process{
		InterpretersHead:  uint32(offsets.Runtime.InterpretersHead),
		InterpreterNext:   uint32(offsets.Interpreter.Next),
		InterpreterThread: uint32(offsets.Interpreter.ThreadsHead),
		ThreadNext:        uint32(offsets.Thread.Next),
		ThreadNativeID:    uint32(offsets.Thread.NativeThreadID),
		ThreadFrame:       uint32(offsets.Thread.CurrentFrame),
		FrameSize:         uint32(offsets.Frame.Localsplus),
		FrameCode:         uint32(offsets.Frame.Executable),
		FramePrevious:     uint32(offsets.Frame.Previous),
		FrameInstruction:  uint32(offsets.Frame.InstrPtr),
		FrameOwner:        uint32(offsets.Frame.Owner),
		ForeignOwner:      ownedByCStack,
		CodeSize:          uint32(offsets.Code.Linetable) + 8,
		CodeFirstLine:     uint32(offsets.Code.Firstlineno),
		CodeArguments:     arguments,
		CodeKeywordOnly:   arguments + 8,
		CodeFlags:         arguments - 4,
		CodeLineTable:     uint32(offsets.Code.Linetable),
		CodeBytecode:      uint32(offsets.Code.CodeAdaptive),
		BytesLength:       uint32(offsets.Bytes.ObSize),
		BytesData:         uint32(offsets.Bytes.ObSval),
	}
	return p, p.check()
}

// check returns an error for offsets that are outside of what the eBPF program reads.
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
		return fmt.Errorf("impossible offsets: %+v", *p)
	}
	return nil
}
