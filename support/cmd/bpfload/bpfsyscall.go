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

// lacksLog tells whether the library dropped the verifier's log. In many releases, 5.10, 6.1 and
// 6.18 among them, the verifier fails with EFAULT if a program has too many paths. The library
// takes that for a bug of the verifier, and returns no log.
func lacksLog(err error) bool {
	return errors.Is(err, unix.EFAULT) && len(logOf(err)) == 0
}

// programLoadAttr is the first part of union bpf_attr for BPF_PROG_LOAD (include/uapi/linux/bpf.h),
// as far as 5.1 and later kernels have it.
type programLoadAttr struct {
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
	AttachBTFID        uint32
}

// logBySyscall loads a program with the system call itself, for the verifier's log. It returns nil
// if the program needs something that only the library can resolve, or if the kernel wrote no log.
func (w *worker) logBySyscall(spec *ebpf.ProgramSpec, level ebpf.LogLevel) []string {
	instructions := append(asm.Instructions(nil), spec.Instructions...)
	attr := programLoadAttr{Type: uint32(spec.Type), Flags: spec.Flags, AttachType: uint32(spec.AttachType)}
	if spec.Type == ebpf.StructOps || spec.AttachTarget != nil {
		return nil
	}
	for _, instruction := range instructions {
		if instruction.IsKfuncCall() || instruction.IsLoadFromMap() && instruction.Map() == nil {
			return nil
		}
	}
	if spec.Type == ebpf.Tracing || spec.Type == ebpf.LSM {
		if attr.AttachBTFID = w.attachBTFID(spec); attr.AttachBTFID == 0 {
			return nil
		}
	}
	var types btf.Builder
	if !w.applyRelocations(instructions, &types) {
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
		return nil // it has a kfunc, a kernel symbol or a kernel option
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

// attachBTFID returns the BTF type id of what a program is attached to, or 0.
func (w *worker) attachBTFID(spec *ebpf.ProgramSpec) uint32 {
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

// applyRelocations applies CO-RE relocations, by the types of the kernel but not those of its
// modules. It tells whether all of them could be applied.
func (w *worker) applyRelocations(instructions asm.Instructions, types *btf.Builder) bool {
	var relocations []*btf.CORERelocation
	var relocated []*asm.Instruction
	for i := range instructions {
		if relocation := btf.CORERelocationMetadata(&instructions[i]); relocation != nil {
			relocations = append(relocations, relocation)
			relocated = append(relocated, &instructions[i])
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
		if fixup.Apply(relocated[i]) != nil {
			return false
		}
	}
	return true
}

// records returns the address, the size and the number of records of one size.
func records(data []byte, recordSize uint32) (start uint64, size, count uint32) {
	if len(data) == 0 {
		return 0, 0, 0
	}
	return address(data), recordSize, uint32(len(data)) / recordSize
}

func address(data []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(data)))) }
