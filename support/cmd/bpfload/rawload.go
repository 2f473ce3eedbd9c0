// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Verifiers of many releases, 5.10, 6.1 and 6.18 among them, answer EFAULT to a program that has too
// many ways through it. The library takes that for a bug of the verifier, and drops its log.
func dropsLog(err error) bool {
	return errors.Is(err, unix.EFAULT) && len(logOf(err)) == 0
}

// programLoad is the begin of union bpf_attr for BPF_PROG_LOAD (include/uapi/linux/bpf.h), as 5.1 and
// later know it.
type programLoad struct {
	Type, Count        uint32
	Instructions       uint64
	License            uint64
	LogLevel, LogSize  uint32
	LogBuffer          uint64
	Version, Flags     uint32
	Name               [16]byte
	Device, AttachType uint32
	BTF, FuncInfoSize  uint32
	FuncInfo           uint64
	FuncInfoCount      uint32
	LineInfoSize       uint32
	LineInfo           uint64
	LineInfoCount      uint32
	AttachID           uint32
}

// logByHand loads a program without the library's last step, for the verifier's log. nil where that
// would take what only the library can resolve.
func (w *worker) logByHand(spec *ebpf.ProgramSpec, level ebpf.LogLevel) []string {
	instructions := append(asm.Instructions(nil), spec.Instructions...)
	attr := programLoad{Type: uint32(spec.Type), Flags: spec.Flags, AttachType: uint32(spec.AttachType)}
	if spec.Type == ebpf.StructOps || spec.AttachTarget != nil {
		return nil
	}
	for _, instruction := range instructions {
		if instruction.IsKfuncCall() || instruction.IsLoadFromMap() && instruction.Map() == nil {
			return nil
		}
	}
	if spec.Type == ebpf.Tracing || spec.Type == ebpf.LSM {
		if attr.AttachID = w.attachID(spec); attr.AttachID == 0 {
			return nil
		}
	}
	var types btf.Builder
	if !w.relocate(instructions, &types) {
		return nil
	}
	functions, lines, err := btf.MarshalExtInfos(instructions, &types)
	if err != nil {
		return nil
	}
	if handle, err := btf.NewHandle(&types); err == nil {
		defer handle.Close()
		attr.BTF = uint32(handle.FD())
		attr.FuncInfo, attr.FuncInfoSize, attr.FuncInfoCount = records(functions, btf.FuncInfoSize)
		attr.LineInfo, attr.LineInfoSize, attr.LineInfoCount = records(lines, btf.LineInfoSize)
	}
	var code bytes.Buffer
	if err := instructions.Marshal(&code, binary.LittleEndian); err != nil {
		return nil // a kfunc, a symbol or an option
	}
	license, log := append([]byte(spec.License), 0), make([]byte, logBytes)
	attr.Count = uint32(code.Len() / asm.InstructionSize)
	attr.Instructions, attr.License, attr.LogBuffer = address(code.Bytes()), address(license), address(log)
	attr.LogLevel, attr.LogSize = uint32(level), uint32(len(log))
	const load = 5 // BPF_PROG_LOAD
	fd, _, errno := unix.Syscall(unix.SYS_BPF, load, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	for _, used := range []any{functions, lines, code, license, log} {
		runtime.KeepAlive(used)
	}
	if errno == 0 {
		unix.Close(int(fd))
	}
	text, _, _ := strings.Cut(string(log), "\x00")
	if text = strings.TrimRight(text, "\n"); text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func (w *worker) attachID(spec *ebpf.ProgramSpec) uint32 {
	kernel, err := w.types.Kernel()
	if err != nil {
		return 0
	}
	prefix := map[ebpf.AttachType]string{
		ebpf.AttachTraceRawTp: "btf_trace_", ebpf.AttachTraceIter: "bpf_iter_",
		ebpf.AttachLSMMac: "bpf_lsm_",
	}[spec.AttachType]
	found, err := kernel.AnyTypeByName(prefix + spec.AttachTo)
	if err != nil {
		return 0
	}
	id, err := kernel.TypeID(found)
	if err != nil {
		return 0
	}
	return uint32(id)
}

// relocate does what CO-RE asks for, by the kernel's types without its modules'.
func (w *worker) relocate(instructions asm.Instructions, types *btf.Builder) bool {
	var relocations []*btf.CORERelocation
	var of []*asm.Instruction
	for i := range instructions {
		if relocation := btf.CORERelocationMetadata(&instructions[i]); relocation != nil {
			relocations, of = append(relocations, relocation), append(of, &instructions[i])
		}
	}
	if len(relocations) == 0 {
		return true
	}
	kernel, err := w.types.Kernel()
	if err != nil {
		return false
	}
	fixups, err := btf.CORERelocate(relocations, []*btf.Spec{kernel}, binary.LittleEndian, types.Add)
	if err != nil {
		return false
	}
	for i, fixup := range fixups {
		if fixup.Apply(of[i]) != nil {
			return false
		}
	}
	return true
}

func records(data []byte, size uint32) (place uint64, each, count uint32) {
	if len(data) == 0 {
		return 0, 0, 0
	}
	return address(data), size, uint32(len(data)) / size
}

func address(data []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(data)))) }
