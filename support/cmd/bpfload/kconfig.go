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

// defineWeakOptions makes `extern ... CONFIG_X __kconfig __weak` 0 if the kernel has no such
// option, as libbpf does. The library refuses such an object, so this adds the option to
// /boot/config-<release> of the guest, which the library reads. If that fails, loading fails with
// the library's error.
func defineWeakOptions(object io.ReaderAt, spec *ebpf.CollectionSpec) {
	weak := weakOptions(object, spec)
	if len(weak) == 0 {
		return
	}
	release, err := requirement.KernelRelease()
	if err != nil {
		return
	}
	name := "/boot/config-" + release
	config, err := os.ReadFile(name)
	added := []byte{'\n'}
	if err != nil {
		if config, err = runningConfig(); err != nil {
			return
		}
		added = bytes.Clone(config)
	}
	defined := definedOptions(config)
	missing := false
	for option, zero := range weak {
		if !defined[option] {
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
	_, _ = file.Write(added) // in one write(2), as other workers may append, too
}

// weakOptions returns the options that an object declares as weak, each with the text of its zero
// value.
func weakOptions(object io.ReaderAt, spec *ebpf.CollectionSpec) map[string]string {
	var section *btf.Datasec
	if spec.Types == nil || spec.Types.TypeByName(".kconfig", &section) != nil {
		return nil
	}
	zeros := map[string]string{}
	for _, entry := range section.Vars {
		if variable, ok := entry.Type.(*btf.Var); ok && strings.HasPrefix(variable.Name, "CONFIG_") {
			zeros[variable.Name] = zeroText(variable.Type)
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
		zero, isOption := zeros[symbol.Name]
		if isOption && elf.ST_BIND(symbol.Info) == elf.STB_WEAK {
			weak[symbol.Name] = zero
		}
	}
	return weak
}

// zeroText returns the zero value of a type as the kernel's configuration writes it.
func zeroText(kind btf.Type) string {
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

func definedOptions(config []byte) map[string]bool {
	defined := map[string]bool{}
	for lines := bufio.NewScanner(bytes.NewReader(config)); lines.Scan(); {
		if name, _, found := strings.Cut(lines.Text(), "="); found {
			defined[name] = true
		}
	}
	return defined
}

// inMemory tells whether a folder is in a file system in memory, as in a guest, and not on a disk.
func inMemory(folder string) bool {
	var info unix.Statfs_t
	if err := unix.Statfs(folder, &info); err != nil {
		return false
	}
	return info.Type == unix.RAMFS_MAGIC || info.Type == unix.TMPFS_MAGIC
}
