// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"io"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/bpfmatrix/bpfmatrix/support/internal/requirement"
)

// giveWeakOptions has `extern ... CONFIG_X __kconfig __weak` be 0 where the kernel has no such option, as
// libbpf does: the library refuses them, so the option is added to the guest's /boot/config-<release>.
// Where it can't be, the library says so.
func giveWeakOptions(object io.ReaderAt, spec *ebpf.CollectionSpec) {
	weak := weakOptions(object, spec)
	if len(weak) == 0 {
		return
	}
	release, err := requirement.KernelRelease()
	if err != nil {
		return
	}
	name := "/boot/config-" + release
	known, err := os.ReadFile(name)
	added := []byte{'\n'}
	if err != nil {
		if known, err = runningConfig(); err != nil {
			return
		}
		added = bytes.Clone(known)
	}
	given := options(known)
	missing := false
	for option, zero := range weak {
		if !given[option] {
			missing = true
			added = append(added, option+"="+zero+"\n"...)
		}
	}
	if !missing || !inMemory("/") {
		return
	}
	_ = os.MkdirAll("/boot", 0o755)
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	defer file.Close()
	_, _ = file.Write(added) // at once: other children may do the same
}

// weakOptions returns the text of 0 for each option that an object may do without.
func weakOptions(object io.ReaderAt, spec *ebpf.CollectionSpec) map[string]string {
	var section *btf.Datasec
	if spec.Types == nil || spec.Types.TypeByName(".kconfig", &section) != nil {
		return nil
	}
	zeros := map[string]string{}
	for _, place := range section.Vars {
		if variable, ok := place.Type.(*btf.Var); ok && strings.HasPrefix(variable.Name, "CONFIG_") {
			zeros[variable.Name] = zeroOf(variable.Type)
		}
	}
	file, err := elf.NewFile(object)
	if err != nil {
		return nil
	}
	symbols, err := file.Symbols()
	if err != nil {
		return nil
	}
	weak := map[string]string{}
	for _, symbol := range symbols {
		zero, known := zeros[symbol.Name]
		if known && elf.ST_BIND(symbol.Info) == elf.STB_WEAK {
			weak[symbol.Name] = zero
		}
	}
	return weak
}

func zeroOf(kind btf.Type) string {
	switch t := btf.UnderlyingType(kind).(type) {
	case *btf.Int:
		if t.Encoding != btf.Bool {
			return "0"
		}
	case *btf.Array:
		return `""`
	}
	return "n"
}

func runningConfig() ([]byte, error) {
	file, err := os.Open("/proc/config.gz")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}

func options(config []byte) map[string]bool {
	given := map[string]bool{}
	for lines := bufio.NewScanner(bytes.NewReader(config)); lines.Scan(); {
		if name, _, found := strings.Cut(lines.Text(), "="); found {
			given[name] = true
		}
	}
	return given
}

// inMemory tells whether a folder is a throw-away guest's, and not one of a disk that somebody keeps.
func inMemory(folder string) bool {
	var info unix.Statfs_t
	if err := unix.Statfs(folder, &info); err != nil {
		return false
	}
	return info.Type == unix.RAMFS_MAGIC || info.Type == unix.TMPFS_MAGIC
}
