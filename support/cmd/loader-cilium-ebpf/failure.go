// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	protocol "github.com/bpfmatrix/bpfmatrix/support/internal/loaderprotocol"
	"github.com/bpfmatrix/bpfmatrix/support/internal/verifierlog"
)

// failed returns a failure with the words and the error number of an error.
func failed(step string, err error) *protocol.Failure {
	var words []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			words = append(words, line)
		}
	}
	return &protocol.Failure{Step: step, Words: words, Errno: errnoName(err)}
}

func missing(kind, name string) *protocol.Missing { return &protocol.Missing{Kind: kind, Name: name} }

func openFailure(err error) *protocol.Failure {
	f := failed(protocol.StepOpen, err)
	if strings.Contains(err.Error(), "missing BTF") {
		f.Missing = missing(protocol.MissingObjectBTF, "")
	}
	return f
}

// unknownSection says that the library knows no program type for the section of a program.
func unknownSection(program *ebpf.ProgramSpec) *protocol.Failure {
	return &protocol.Failure{
		Step:    protocol.StepOpen,
		Words:   []string{"the library knows no program type for section " + program.SectionName},
		Missing: missing(protocol.MissingSection, program.SectionName),
	}
}

// mapFailure says why a map could not be made. A kernel returns EINVAL for a map type that it does
// not know, but also for other reasons, so this probes for the type.
func mapFailure(spec *ebpf.MapSpec, name string, err error) *protocol.Failure {
	f := failed(protocol.StepMap, err)
	f.Map = &protocol.Map{Name: name, Type: mapType(spec.Type), Entries: spec.MaxEntries}
	f.TypeSupported = answer(features.HaveMapType(spec.Type))
	return f
}

// answer returns what a probe for a feature found, or nil if it found nothing out.
func answer(err error) *bool {
	supported := err == nil
	if !supported && !errors.Is(err, ebpf.ErrNotSupported) {
		return nil
	}
	return &supported
}

// The library tells these apart in its texts only.
var (
	missingOption = regexp.MustCompile(`config option "(\w+)" does not exist`)
	missingSymbol = regexp.MustCompile(`kernel is missing symbol: ([^,\s]+)`)
	missingKfunc  = regexp.MustCompile(`kfunc "([^"]+)": not supported`)
)

// loadFailure says why a program did not load.
func (w *worker) loadFailure(spec *ebpf.ProgramSpec, err error) *protocol.Failure {
	f := failed(protocol.StepLoad, err)
	text := strings.TrimPrefix(err.Error(), "program "+spec.Name+": ")
	what, _, _ := strings.Cut(text, ":")
	switch {
	case what == "load program":
		f.Words = []string{withoutLog(text, err)}
		w.addCause(f, spec, err)
	case what == "apply CO-RE relocations":
		f.Step = protocol.StepRelocate
		if w.lacksKernelBTF() {
			f.Missing = missing(protocol.MissingKernelBTF, "")
		}
	case what == "resolve .kconfig":
		f.Step = protocol.StepRelocate
		if match := missingOption.FindStringSubmatch(text); match != nil {
			f.Missing = missing(protocol.MissingKconfig, match[1])
		} else if strings.Contains(text, "cannot find a kconfig file") {
			f.Missing = missing(protocol.MissingKconfigFile, "")
		}
	case what == "resolve .ksyms", what == "populating kallsyms caches":
		f.Step = protocol.StepRelocate
		if match := missingSymbol.FindStringSubmatch(text); match != nil {
			f.Missing = missing(protocol.MissingKsym, match[1])
		}
	case what == "fixing up kfuncs":
		f.Step = protocol.StepRelocate
		if w.lacksKernelBTF() {
			f.Missing = missing(protocol.MissingKernelBTF, "")
		} else if match := missingKfunc.FindStringSubmatch(text); match != nil {
			f.Missing = missing(protocol.MissingKfunc, match[1])
		}
	case what == "load BTF", what == "marshal ext_infos":
		f.Step = protocol.StepBTF
	case spec.AttachTo != "":
		w.addMissingTarget(f, spec, err)
	}
	if f.Missing == nil && len(logOf(err)) == 0 && mayLackType(err) {
		f.TypeSupported = answer(features.HaveProgramType(spec.Type))
	}
	return f
}

// withoutLog returns an error's text without the lines of the verifier's log at its end, of which
// the last are statistics: the whole log is in the result.
func withoutLog(text string, err error) string {
	var rejection *ebpf.VerifierError
	if errors.As(err, &rejection) && len(rejection.Log) > 0 {
		cause := rejection.Cause.Error()
		if before, _, found := strings.Cut(text, cause); found {
			return before + cause
		}
	}
	return text
}

func (w *worker) lacksKernelBTF() bool {
	_, err := w.types.Kernel()
	return err != nil
}

// addMissingTarget says that what a program attaches to was not found.
func (w *worker) addMissingTarget(f *protocol.Failure, spec *ebpf.ProgramSpec, err error) {
	f.Step = protocol.StepTarget
	switch {
	case w.lacksKernelBTF():
		f.Missing = missing(protocol.MissingKernelBTF, "")
	case errors.Is(err, btf.ErrMultipleMatches):
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, btf.ErrNotFound),
		strings.Contains(err.Error(), " not found in "):
		f.Missing = missing(protocol.MissingTarget, spec.AttachTo)
	}
}

// addCause adds what the library, or a probe of it, tells of the reason why the kernel refused a
// program.
func (w *worker) addCause(f *protocol.Failure, spec *ebpf.ProgramSpec, err error) {
	log := logOf(err)
	switch {
	case strings.Contains(err.Error(), "bad CO-RE relocation"):
		offset, index := verifierlog.LastInstruction(log)
		name := ""
		if index >= 0 {
			name = relocationTarget(w.object.spec.Types, spec.Instructions, offset)
		}
		f.Missing = missing(protocol.MissingType, name)
	case strings.Contains(err.Error(), "unknown kfunc"):
		offset, index := verifierlog.LastInstruction(log)
		name := ""
		if index >= 0 {
			name = referenceAt(spec.Instructions, offset)
		}
		f.Missing = missing(protocol.MissingKfunc, name)
	case strings.Contains(strings.Join(log, "\n"), "processed 0 insns"):
		// The verifier refuses a new helper's arguments, such as callbacks, before it checks the
		// helper.
		if number, ok := missingHelper(spec); ok {
			f.Missing = missing(protocol.MissingHelper, strconv.FormatInt(number, 10))
		}
	}
}

// referenceAt returns the name that the instruction at an offset refers to.
func referenceAt(instructions asm.Instructions, offset asm.RawInstructionOffset) string {
	for iter := instructions.Iterate(); iter.Next(); {
		if iter.Offset == offset {
			return iter.Ins.Reference()
		}
	}
	return ""
}

func attachFailure(spec *ebpf.ProgramSpec, err error) *protocol.Failure {
	f := failed(protocol.StepAttach, err)
	if errors.Is(err, os.ErrNotExist) && spec.AttachTo != "" {
		f.Missing = missing(protocol.MissingTarget, spec.AttachTo)
	}
	return f
}

// missingHelper probes for the helpers that a program calls, and returns the first that this kernel
// does not have at all.
func missingHelper(spec *ebpf.ProgramSpec) (int64, bool) {
	probed := map[int64]bool{}
	for _, instruction := range spec.Instructions {
		number := instruction.Constant
		if !instruction.IsBuiltinCall() || probed[number] {
			continue
		}
		probed[number] = true
		if !anyTypeHas(asm.BuiltinFunc(number)) {
			return number, true
		}
	}
	return 0, false
}

// anyTypeHas tells whether programs of some type can call a helper. The types that it probes can
// together call nearly all helpers. Probing one type would not do: the library's answer is the same
// if the kernel lacks the helper and if that type may not call it.
func anyTypeHas(helper asm.BuiltinFunc) bool {
	for _, kind := range []ebpf.ProgramType{
		ebpf.Kprobe, ebpf.SchedCLS, ebpf.XDP, ebpf.SockOps, ebpf.SkMsg, ebpf.SkSKB, ebpf.CGroupSockAddr,
		ebpf.CGroupSockopt, ebpf.SkLookup, ebpf.LWTXmit, ebpf.PerfEvent, ebpf.Syscall,
	} {
		if !errors.Is(features.HaveProgramHelper(kind, helper), ebpf.ErrNotSupported) {
			return true
		}
	}
	return false
}

// mayLackType tells whether an error may mean that the kernel does not have a program type.
func mayLackType(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.E2BIG) || errors.Is(err, ebpf.ErrNotSupported)
}

func logOf(err error) []string {
	var rejection *ebpf.VerifierError
	if errors.As(err, &rejection) {
		return rejection.Log
	}
	return nil
}

func errnoName(err error) string {
	var number unix.Errno
	if !errors.As(err, &number) {
		// Of the errors that the library, or Go, makes of error numbers.
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "ENOENT"
		}
		return ""
	}
	if name := unix.ErrnoName(number); name != "" {
		return name
	}
	// An error number of the kernel's own (include/linux/errno.h), which bpf(2) returns all the
	// same.
	if number == 524 {
		return "ENOTSUPP"
	}
	return fmt.Sprint(int(number))
}
