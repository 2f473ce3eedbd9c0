// Package filter is an XDP program that drops DNS queries over IPv4.
package filter

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

const (
	xdpDrop = 1
	xdpPass = 2

	etherType = 12 // offsets in an Ethernet frame with an IPv4 header without options
	version   = 14
	protocol  = 23
	destPort  = 36
	headers   = 42
)

// Load loads the program into the kernel.
func Load() (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "drop_dns",
		Type: ebpf.XDP,
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // xdp_md.data
			asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // xdp_md.data_end
			asm.Mov.Imm(asm.R0, xdpPass),
			asm.Mov.Reg(asm.R4, asm.R2),
			asm.Add.Imm(asm.R4, headers),
			asm.JGT.Reg(asm.R4, asm.R3, "exit"),
			asm.LoadMem(asm.R4, asm.R2, etherType, asm.Half),
			asm.HostTo(asm.BE, asm.R4, asm.Half),
			asm.JNE.Imm(asm.R4, 0x0800, "exit"),
			asm.LoadMem(asm.R4, asm.R2, version, asm.Byte),
			asm.JNE.Imm(asm.R4, 0x45, "exit"),
			asm.LoadMem(asm.R4, asm.R2, protocol, asm.Byte),
			asm.JNE.Imm(asm.R4, 17, "exit"), // UDP
			asm.LoadMem(asm.R4, asm.R2, destPort, asm.Half),
			asm.HostTo(asm.BE, asm.R4, asm.Half),
			asm.JNE.Imm(asm.R4, 53, "exit"),
			asm.Mov.Imm(asm.R0, xdpDrop),
			asm.Return().WithSymbol("exit"),
		},
		License: "MIT",
	})
}
