// SPDX-License-Identifier: Apache-2.0

package pytrace

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// ErrNoPython says that a process has no CPython in it, or none yet.
var ErrNoPython = errors.New("no CPython in this process")

// ErrUnsupported says that a process has a CPython whose frames can't be walked.
var ErrUnsupported = errors.New("this CPython is not supported (3.11, 3.12 and 3.13 are)")

type version struct{ major, minor uint8 }

// An Interpreter is the CPython in a process.
type Interpreter struct {
	Version string // such as 3.11
	process process
}

// Inspect finds the CPython in a process, in its executable or a shared library.
func Inspect(pid int) (*Interpreter, error) {
	root := fmt.Sprintf("/proc/%d", pid)
	maps, err := os.Open(root + "/maps")
	if err != nil {
		return nil, err
	}
	defer maps.Close()
	mappings, err := parseMaps(maps)
	if err != nil {
		return nil, err
	}
	memory, err := os.Open(root + "/mem")
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	for _, mapping := range mappings {
		if !strings.Contains(filepath.Base(mapping.path), "python") {
			continue
		}
		// By way of the process's root: it may be another one, or another mount namespace's.
		symbols, err := findSymbols(root+"/root"+mapping.path, mapping, "_PyRuntime", "Py_Version")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", mapping.path, err)
		}
		if runtime := symbols["_PyRuntime"]; runtime != 0 {
			return read(memory, runtime, symbols["Py_Version"])
		}
	}
	return nil, ErrNoPython
}

func read(memory io.ReaderAt, runtime, versionAt uint64) (*Interpreter, error) {
	if versionAt == 0 { // it came with 3.11
		return nil, ErrUnsupported
	}
	var hex [8]byte // PY_VERSION_HEX: 0x030b02f0 is 3.11.2
	if _, err := memory.ReadAt(hex[:], int64(versionAt)); err != nil {
		return nil, fmt.Errorf("Py_Version: %w", err)
	}
	is := version{hex[3], hex[2]}
	found := &Interpreter{Version: fmt.Sprintf("%d.%d", is.major, is.minor)}
	var known bool
	switch found.process, known = offsetTables[is]; {
	case known:
	case is == version{3, 13}:
		data := make([]byte, debugOffsetsSize)
		if _, err := memory.ReadAt(data, int64(runtime)); err != nil {
			return nil, fmt.Errorf("_Py_DebugOffsets: %w", err)
		}
		var err error
		if found.process, err = parseDebugOffsets(data); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%w: it is %s", ErrUnsupported, found.Version)
	}
	found.process.Runtime = runtime
	return found, nil
}

// A mapping is the first one of a file in a process's memory.
type mapping struct {
	start, offset uint64
	path          string
}

// parseMaps reads /proc/PID/maps (proc_pid_maps(5)) and returns the first mapping of each file.
func parseMaps(maps io.Reader) ([]mapping, error) {
	var found []mapping
	seen := map[string]bool{}
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var one mapping
		var end, inode uint64
		var rights, device string
		line := lines.Text()
		_, err := fmt.Sscanf(line, "%x-%x %s %x %s %d",
			&one.start, &end, &rights, &one.offset, &device, &inode)
		if err != nil {
			return nil, fmt.Errorf("maps: %q: %w", line, err)
		}
		slash := strings.IndexByte(line, '/')
		if inode == 0 || slash < 0 {
			continue
		}
		one.path = line[slash:]
		if !seen[one.path] {
			seen[one.path] = true
			found = append(found, one)
		}
	}
	return found, lines.Err()
}

// findSymbols returns the addresses that a file's symbols have where it is mapped so; those that it
// does not have are missing.
func findSymbols(path string, at mapping, names ...string) (map[string]uint64, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if file.Class != elf.ELFCLASS64 || file.ByteOrder != binary.LittleEndian {
		return nil, ErrUnsupported
	}
	bias, err := loadBias(file.Progs, at)
	if err != nil {
		return nil, err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, err
	}
	// A static executable may have them only here.
	others, err := file.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, err
	}
	found := map[string]uint64{}
	for _, symbol := range append(symbols, others...) {
		for _, name := range names {
			if symbol.Name == name && symbol.Section != elf.SHN_UNDEF {
				found[name] = symbol.Value + bias
			}
		}
	}
	return found, nil
}

// loadBias returns what to add to an address of the file, to get that in the process.
func loadBias(segments []*elf.Prog, at mapping) (uint64, error) {
	const page = 4096 // a file's segments are at least so far apart, wherever pages are larger
	for _, segment := range segments {
		if segment.Type == elf.PT_LOAD && segment.Off&^(page-1) == at.offset {
			return at.start - segment.Vaddr&^(page-1), nil
		}
	}
	return 0, fmt.Errorf("no segment of it is at offset %#x, where it is mapped", at.offset)
}
