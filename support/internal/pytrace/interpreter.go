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
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// ErrNoPython says that a process has not mapped a CPython interpreter, or not yet.
var ErrNoPython = errors.New("no CPython in this process")

// ErrUnsupported says that the CPython of a process is one whose frames can't be walked.
var ErrUnsupported = errors.New("this CPython can't be walked (those of 3.8 to 3.14 with a GIL can)")

type version struct{ major, minor uint8 }

// An Interpreter is the CPython interpreter of a process.
type Interpreter struct {
	Version string // such as 3.11
	process process
}

// Inspect finds the CPython interpreter of a process, in its executable or in a shared library.
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
		// The path is relative to the root of that process, which may differ from the root of this
		// one.
		path := root + "/root" + mapping.path
		program, symbols, err := findSymbols(path, mapping)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", mapping.path, err)
		}
		if runtime := symbols[runtimeSymbol]; runtime != 0 {
			v, err := findVersion(memory, symbols[versionSymbol], program)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", mapping.path, err)
			}
			interpreter, err := readInterpreter(memory, runtime, v)
			if err == nil && v.minor < 11 {
				interpreter.process.PthreadID, err = findPthreadID(memory, root+"/root", mappings)
			}
			return interpreter, err
		}
	}
	return nil, ErrNoPython
}

// findVersion reads the version from the address of Py_Version, which came with 3.11. An older CPython
// has it in its file, as a part of the names of extension modules.
func findVersion(memory io.ReaderAt, versionAt uint64, program *programFile) (version, error) {
	if versionAt == 0 {
		return program.version, program.versionErr
	}
	var hex [8]byte // PY_VERSION_HEX: 0x030b02f0 is 3.11.2
	if _, err := memory.ReadAt(hex[:], int64(versionAt)); err != nil {
		return version{}, fmt.Errorf("Py_Version: %w", err)
	}
	return version{hex[3], hex[2]}, nil
}

// extensionSuffix is an end of the names of extension modules, _PyImport_DynLoadFiletab in
// Python/dynload_shlib.c: .cpython-310-x86_64-linux-gnu.so, or with 310d in a debug build.
var extensionSuffix = regexp.MustCompile(`\.cpython-([23])(\d+)[a-z]*-`)

// versionOfFile returns the version of CPython whose code is in an ELF file.
func versionOfFile(file *elf.File) (version, error) {
	section := file.Section(".rodata")
	if section == nil {
		return version{}, ErrUnsupported
	}
	data, err := section.Data()
	if err != nil {
		return version{}, err
	}
	found := extensionSuffix.FindSubmatch(data)
	if found == nil {
		return version{}, ErrUnsupported
	}
	minor, err := strconv.ParseUint(string(found[2]), 10, 8)
	return version{found[1][0] - '0', uint8(minor)}, err
}

// readInterpreter returns the offsets for a version. Since 3.13, the process itself holds the offsets,
// at the address of _PyRuntime.
func readInterpreter(memory io.ReaderAt, runtime uint64, v version) (*Interpreter, error) {
	interpreter := &Interpreter{Version: fmt.Sprintf("%d.%d", v.major, v.minor)}
	if table, known := offsetTables[v]; known {
		interpreter.process = table
	} else if layout, known := debugLayouts[v]; known {
		data := make([]byte, debugOffsetsSize(layout))
		if _, err := memory.ReadAt(data, int64(runtime)); err != nil {
			return nil, fmt.Errorf("_Py_DebugOffsets: %w", err)
		}
		var err error
		if interpreter.process, err = parseDebugOffsets(data, layout); err != nil {
			return nil, err
		}
	} else {
		return nil, fmt.Errorf("%w: it is %s", ErrUnsupported, interpreter.Version)
	}
	interpreter.process.setFrameRange()
	interpreter.process.Runtime = runtime
	return interpreter, nil
}

// findPthreadID returns the offset of a thread's id in the structure that its pthread_t points to. The
// C library has it for debuggers: _thread_db_pthread_tid, which holds the size of the field in bits,
// a number of elements, and the offset (nptl_db/structs.def of glibc).
func findPthreadID(memory io.ReaderAt, root string, mappings []mapping) (uint32, error) {
	for _, mapping := range mappings {
		// Before glibc 2.34, it was in libpthread.
		base := filepath.Base(mapping.path)
		if !strings.HasPrefix(base, "libc") && !strings.HasPrefix(base, "libpthread") {
			continue
		}
		_, symbols, err := findSymbols(root+mapping.path, mapping)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", mapping.path, err)
		}
		if at := symbols[threadSymbol]; at != 0 {
			var field [12]byte
			if _, err := memory.ReadAt(field[:], int64(at)); err != nil {
				return 0, fmt.Errorf("%s: %w", threadSymbol, err)
			}
			return binary.LittleEndian.Uint32(field[8:]), nil
		}
	}
	// The C library may be mapped after Python's own library.
	return 0, fmt.Errorf("%w whose threads can be found: up to 3.10, that needs glibc", ErrNoPython)
}

// A mapping is a file in the memory of a process: the first of its mappings.
type mapping struct {
	start, offset uint64
	path          string
}

// parseMaps reads /proc/PID/maps (proc_pid_maps(5)) and returns the first mapping of each file.
func parseMaps(maps io.Reader) ([]mapping, error) {
	var mappings []mapping
	seen := map[string]bool{}
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		line := lines.Text()
		// START-END RIGHTS OFFSET DEVICE INODE, and the path, in which there may be spaces
		fields := strings.Fields(line)
		if len(fields) < 5 {
			return nil, fmt.Errorf("maps: %q has too few fields", line)
		}
		from, _, isRange := strings.Cut(fields[0], "-")
		start, err := strconv.ParseUint(from, 16, 64)
		if err == nil && !isRange {
			err = strconv.ErrSyntax
		}
		if err != nil {
			return nil, fmt.Errorf("maps: %q: %w", line, err)
		}
		offset, err := strconv.ParseUint(fields[2], 16, 64)
		if err != nil {
			return nil, fmt.Errorf("maps: %q: %w", line, err)
		}
		slash := strings.IndexByte(line, '/')
		if fields[4] == "0" || slash < 0 || seen[line[slash:]] {
			continue
		}
		seen[line[slash:]] = true
		mappings = append(mappings, mapping{start, offset, line[slash:]})
	}
	return mappings, lines.Err()
}

// The symbols that are looked for.
const (
	runtimeSymbol = "_PyRuntime"
	versionSymbol = "Py_Version"
	threadSymbol  = "_thread_db_pthread_tid"
)

// A programFile has what an ELF file tells of itself.
type programFile struct {
	segments   []*elf.Prog
	symbols    map[string]uint64 // of those that are looked for
	version    version           // if its symbols do not lead to it
	versionErr error
}

// fileKey tells whether a file is one that was read before.
type fileKey struct {
	device, inode  uint64
	size, modified int64
}

// programFiles has the files that were read. To read one takes an emulated machine half a second, and
// a process that has just begun should not run that long without being sampled.
var programFiles = struct {
	sync.Mutex
	read map[fileKey]*programFile
}{read: map[fileKey]*programFile{}}

// programAt returns what a file tells, which is read only once.
func programAt(path string) (*programFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	key := fileKey{size: info.Size(), modified: info.ModTime().UnixNano()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		key.device, key.inode = uint64(stat.Dev), stat.Ino
	}
	programFiles.Lock()
	defer programFiles.Unlock()
	if known := programFiles.read[key]; known != nil {
		return known, nil
	}
	program, err := readProgram(path)
	if err == nil {
		programFiles.read[key] = program
	}
	return program, err
}

func readProgram(path string) (*programFile, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if file.Class != elf.ELFCLASS64 || file.ByteOrder != binary.LittleEndian {
		return nil, ErrUnsupported
	}
	symbols, err := file.DynamicSymbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, err
	}
	// A static executable may have them only in this table.
	others, err := file.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, err
	}
	program := &programFile{segments: file.Progs, symbols: map[string]uint64{}}
	for _, symbol := range append(symbols, others...) {
		switch symbol.Name {
		case runtimeSymbol, versionSymbol, threadSymbol:
			if symbol.Section != elf.SHN_UNDEF {
				program.symbols[symbol.Name] = symbol.Value
			}
		}
	}
	if program.symbols[runtimeSymbol] != 0 && program.symbols[versionSymbol] == 0 {
		program.version, program.versionErr = versionOfFile(file)
	}
	return program, nil
}

// findSymbols returns a mapped file, and the addresses in the process of the symbols that are looked
// for. Those that the file does not have are missing in the result.
func findSymbols(path string, at mapping) (*programFile, map[string]uint64, error) {
	program, err := programAt(path)
	if err != nil {
		return nil, nil, err
	}
	bias, err := loadBias(program.segments, at)
	if err != nil {
		return nil, nil, err
	}
	found := map[string]uint64{}
	for name, value := range program.symbols {
		found[name] = value + bias
	}
	return program, found, nil
}

// loadBias returns the difference between an address in the process and the address in the file.
func loadBias(segments []*elf.Prog, at mapping) (uint64, error) {
	const page = 4096 // the smallest page size; segments are aligned to that or more
	for _, segment := range segments {
		if segment.Type == elf.PT_LOAD && segment.Off&^(page-1) == at.offset {
			return at.start - segment.Vaddr&^(page-1), nil
		}
	}
	return 0, fmt.Errorf("it is mapped at offset %#x, where it has no segment", at.offset)
}
