// Package counter counts packets by their lengths, in the kernel.
package counter

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

const longest = 2048

// Counter is a loaded program, and what it has counted. Many goroutines may use one.
type Counter struct {
	lengths *ebpf.Map
	program *ebpf.Program

	mutex sync.Mutex
	seen  [longest]uint64 // the highest count of each length that was read
}

// New loads the program.
func New() (*Counter, error) {
	lengths, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "lengths", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: longest,
	})
	if err != nil {
		return nil, fmt.Errorf("create the map: %w", err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "count",
		Type: ebpf.SocketFilter,
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R1, asm.R1, 0, asm.Word), // __sk_buff.len
			asm.StoreMem(asm.RFP, -4, asm.R1, asm.Word),
			asm.LoadMapPtr(asm.R1, lengths.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "exit"),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("exit"),
			asm.Return(),
		},
		License: "MIT",
	})
	if err != nil {
		lengths.Close()
		return nil, fmt.Errorf("load the program: %w", err)
	}
	return &Counter{lengths: lengths, program: program}, nil
}

// Close unloads the program.
func (c *Counter) Close() {
	c.program.Close()
	c.lengths.Close()
}

// Read reads how many packets of a length there were, and remembers it.
func (c *Counter) Read(length uint32) (uint64, error) {
	var count uint64
	if err := c.lengths.Lookup(length, &count); err != nil {
		return 0, err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	// Another goroutine may have read a newer count in the meantime.
	c.seen[length] = max(c.seen[length], count)
	return c.seen[length], nil
}
