// SPDX-License-Identifier: Apache-2.0

// Package requirement reads which kernel release an object declares as the oldest that it can run
// on (ebpf/requires.h), and compares it with the running kernel.
package requirement

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// If this environment variable is "1", objects are loaded whatever they require: vendors backport
// features without changing the release.
const ignoreVariable = "BPFMATRIX_IGNORE_REQUIREMENTS"

// Ignored tells whether the environment says to ignore what objects require.
func Ignored() bool { return os.Getenv(ignoreVariable) == "1" }

// The section that REQUIRES_KERNEL of ebpf/requires.h writes to.
const section = ".bpfmatrix.requires"

// A Release is the part of a kernel's release that is a release of upstream: 5.10 of
// "5.10.0-46-cloud-amd64". The distribution chooses the rest.
type Release struct {
	Major, Minor int
}

func (r Release) String() string {
	return fmt.Sprintf("%d.%d", r.Major, r.Minor)
}

func (r Release) before(other Release) bool {
	return r.Major < other.Major || r.Major == other.Major && r.Minor < other.Minor
}

// ParseRelease reads the two numbers with which a text starts.
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

// A Requirement is the oldest kernel release that an object can run on, and the feature that is the
// reason.
type Requirement struct {
	Release Release
	Feature string
}

// Read returns what an object declares, or nil if it declares nothing.
func Read(object io.ReaderAt) (*Requirement, error) {
	file, err := elf.NewFile(object)
	if err != nil {
		return nil, err
	}
	declaration := file.Section(section)
	if declaration == nil {
		return nil, nil
	}
	data, err := declaration.Data()
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

// UnmetBy says why a kernel can't run the object. It is empty if the kernel can, or if there is no
// requirement (nil). The kernel is given by its release, as `uname -r` prints it.
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

// Unmet says why the running kernel can't run the object. It is empty if the kernel can, if there
// is no requirement (nil), or if requirements are ignored.
func (r *Requirement) Unmet() (string, error) {
	if Ignored() {
		return "", nil
	}
	kernel, err := KernelRelease()
	if err != nil {
		return "", err
	}
	return r.UnmetBy(kernel)
}

// KernelRelease returns the running kernel's release, as `uname -r` prints it.
func KernelRelease() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}
