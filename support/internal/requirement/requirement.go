// SPDX-License-Identifier: Apache-2.0

// Package requirement reads the oldest kernel release that an object says it can run on
// (ebpf/requires.h), and compares it with the kernel that runs.
package requirement

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// IgnoreVariable names the environment variable that, when it is "1", has every object
// loaded whatever it requires: vendors backport features without a new release.
const IgnoreVariable = "BPFMATRIX_IGNORE_REQUIREMENTS"

// The section that REQUIRES_KERNEL of ebpf/requires.h writes to.
const section = ".bpfmatrix.requires"

// A Release is the part of a kernel's release that says what upstream had: 5.10 of
// "5.10.0-46-cloud-amd64". What follows is the distribution's, and need not be upstream's number.
type Release struct {
	Major, Minor int
}

func (r Release) String() string {
	return fmt.Sprintf("%d.%d", r.Major, r.Minor)
}

func (r Release) before(other Release) bool {
	return r.Major < other.Major || r.Major == other.Major && r.Minor < other.Minor
}

// ParseRelease reads the two numbers that text starts with.
func ParseRelease(text string) (Release, error) {
	major, rest, dot := strings.Cut(text, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	var release Release
	var errMajor, errMinor error
	release.Major, errMajor = strconv.Atoi(major)
	release.Minor, errMinor = strconv.Atoi(rest[:end])
	if !dot || errMajor != nil || errMinor != nil {
		return Release{}, fmt.Errorf("kernel release %q does not start with MAJOR.MINOR", text)
	}
	return release, nil
}

// A Requirement is the oldest kernel release that has what an object uses.
type Requirement struct {
	Release Release
	Feature string
}

// Read returns what an object declares, or nil where it declares nothing.
func Read(object io.ReaderAt) (*Requirement, error) {
	file, err := elf.NewFile(object)
	if err != nil {
		return nil, err
	}
	found := file.Section(section)
	if found == nil {
		return nil, nil
	}
	data, err := found.Data()
	if err != nil {
		return nil, fmt.Errorf("section %s: %w", section, err)
	}
	requirement, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("section %s: %w", section, err)
	}
	return requirement, nil
}

func parse(data []byte) (*Requirement, error) {
	text, rest, terminated := bytes.Cut(data, []byte{0})
	if !terminated || len(rest) > 0 {
		return nil, fmt.Errorf("%q is not one NUL-terminated string", data)
	}
	number, feature, found := strings.Cut(string(text), " ")
	release, err := ParseRelease(number)
	if err != nil {
		return nil, err
	}
	if !found || feature == "" || number != release.String() {
		return nil, fmt.Errorf("%q is not \"MAJOR.MINOR feature\"", text)
	}
	return &Requirement{release, feature}, nil
}

// UnmetBy says why a kernel, named as uname -r does, can't run the object; it is empty if it can.
func (r *Requirement) UnmetBy(kernel string) (string, error) {
	if r == nil {
		return "", nil
	}
	running, err := ParseRelease(kernel)
	if err != nil {
		return "", err
	}
	if !running.before(r.Release) {
		return "", nil
	}
	return fmt.Sprintf("needs %s (%s), this kernel is %s", r.Release, r.Feature, kernel), nil
}

// KernelRelease returns what uname -r says.
func KernelRelease() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}
