// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// A loadFailure says why a program did not load.
type loadFailure struct{ code, reason, errno string }

func (f *loadFailure) copyTo(result *programEvent) {
	result.Outcome, result.Code, result.Errno = failed, f.code, f.errno
	result.Reason = oneLine(f.reason)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// classifyMap says why a map could not be created. A kernel returns EINVAL for a map type that it
// does not know, but also for other reasons, so this probes for the type.
func classifyMap(spec *ebpf.MapSpec, name string, err error) *mapError {
	kind := mapType(spec.Type)
	switch {
	case errors.Is(features.HaveMapType(spec.Type), ebpf.ErrNotSupported):
		return &mapError{codeUnsupportedMapType,
			fmt.Sprintf("this kernel has no map type %s (map %s)", kind, name), err}
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.E2BIG):
		return &mapError{codeNoMemory,
			fmt.Sprintf("no memory for map %s (%s, %d entries)", name, kind, spec.MaxEntries), err}
	case spec.MaxEntries == 0 && errors.Is(err, unix.EINVAL):
		return &mapError{codeMapCreateFailed, fmt.Sprintf(
			"map %s (%s) has no size: give its size at run time with --map-size %s=ENTRIES",
			name, kind, name), err}
	}
	return &mapError{codeMapCreateFailed,
		strings.TrimPrefix(err.Error(), "map "+name+": ") + " (map " + name + ")", err}
}

// Messages of the verifier, with the functions of the kernel that write them. The first group is a
// name or a number.
var (
	// check_helper_call of kernel/bpf/verifier.c, in all releases.
	unknownNumber = regexp.MustCompile(`invalid func unknown#(\d+)`)
	// check_helper_call, for a helper that programs of this type can't call: up to 6.12, and later.
	notForType = regexp.MustCompile(
		`(?:unknown func|program of this type cannot use helper) (\w+)#(\d+)`)
	// check_kfunc_call, fetch_kfunc_meta, add_kfunc_call.
	kfuncRefused = regexp.MustCompile(
		`calling kernel function (\w+) is not allowed|` +
			`(calling kernel functions? (?:are|is) not supported[^\n]*)|` +
			`(kernel btf_id \d+ is not a (?:kernel )?function)`)
	tooComplex = regexp.MustCompile(
		`BPF program is too large|The sequence of \d+ jumps is too complex|program is too complex`)
	noFuncInfo = regexp.MustCompile(`(?i)missing btf|program BTF|has no btf`)
	// bpf_check_attach_target.
	noTarget = regexp.MustCompile(
		`attach_btf_id \d+ is (?:not a|invalid)|[Cc]annot find address for kernel function|` +
			`is not modifiable|LSM programs must (?:attach|have)|points to .* hook|` +
			`attach to unsupported member|Invalid attach_func|the address of function \w+ cannot be found`)
)

// classify says why a program did not load. It looks at the library's error, at the kernel's error
// number and at the verifier's log, and it probes the kernel if these have several possible causes.
func classify(spec *ebpf.ProgramSpec, err error) *loadFailure {
	f := &loadFailure{reason: err.Error(), errno: errnoName(err)}
	text := err.Error()
	switch {
	case needsKernelBTF(spec) && !haveKernelBTF() && errors.Is(err, ebpf.ErrNotSupported),
		strings.Contains(text, "load kernel spec"):
		f.code = codeMissingBTF
		f.reason = "it needs the kernel's BTF, and this kernel has none (CONFIG_DEBUG_INFO_BTF)"
	case unsupportedType(spec, err):
		f.code = codeUnsupportedProgramType
		f.reason = "this kernel has no program type " + programType(spec.Type)
	case strings.Contains(text, "apply CO-RE relocations"):
		f.code = codeRelocationFailed
		f.reason = after(text, "apply CO-RE relocations: ")
	case strings.Contains(text, "resolve .kconfig"), strings.Contains(text, "resolve .ksyms"):
		f.code = codeRelocationFailed
		f.reason = after(after(text, "resolve .kconfig: "), "resolve .ksyms: ")
	case strings.Contains(text, "fixing up kfuncs"):
		f.code = codeUnsupportedKfunc
		f.reason = kfuncReason(after(text, "fixing up kfuncs: "))
	case strings.Contains(text, "load BTF:"), strings.Contains(text, "marshal ext_infos"):
		f.code = codeBadBTF
		f.reason = "the kernel refused the object's BTF: " + after(text, "load BTF: ")
	case strings.Contains(text, "struct_ops") && errors.Is(err, btf.ErrNotFound),
		strings.Contains(text, "not found in"), strings.Contains(text, ": attach "):
		f.code = codeAttachTargetMissing
		f.reason = targetReason(spec, err)
	default:
		classifyRejection(spec, err, f)
	}
	return f
}

// after returns what follows a part of a text, or the whole text if it does not have that part.
func after(text, part string) string {
	if _, rest, found := strings.Cut(text, part); found {
		return rest
	}
	return text
}

func kfuncReason(text string) string {
	if name, found := strings.CutSuffix(text, ": not supported"); found {
		return "this kernel has no " + name
	}
	return text
}

func targetReason(spec *ebpf.ProgramSpec, err error) string {
	if errors.Is(err, btf.ErrMultipleMatches) {
		return "this kernel has several functions named " + spec.AttachTo
	}
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, btf.ErrNotFound) {
		return fmt.Sprintf("this kernel has no %s, or its BTF lacks it", targetName(spec))
	}
	return err.Error()
}

func targetName(spec *ebpf.ProgramSpec) string {
	switch spec.AttachType {
	case ebpf.AttachTraceRawTp:
		return "tracepoint " + spec.AttachTo
	case ebpf.AttachTraceIter:
		return "iterator " + spec.AttachTo
	case ebpf.AttachLSMMac, ebpf.AttachLSMCgroup:
		return "LSM hook " + spec.AttachTo
	}
	switch spec.Type {
	case ebpf.StructOps:
		return "struct_ops " + spec.AttachTo
	case ebpf.TracePoint, ebpf.RawTracepoint, ebpf.RawTracepointWritable:
		return "tracepoint " + spec.AttachTo
	}
	return "function " + spec.AttachTo
}

// classifyRejection says why the verifier, or the system call, refused a program.
func classifyRejection(spec *ebpf.ProgramSpec, err error, f *loadFailure) {
	lines := logOf(err)
	log := strings.Join(lines, "\n")
	f.reason = rejectionMessage(lines)
	switch {
	case strings.Contains(err.Error(), "bad CO-RE relocation"):
		f.code, f.errno = codeRelocationFailed, "EINVAL"
		f.reason = "CO-RE: it uses a type or a field that this kernel does not have"
	case strings.Contains(err.Error(), "unknown kfunc"):
		f.code, f.errno = codeUnsupportedKfunc, "EINVAL"
		f.reason = "it calls a weak kfunc that this kernel does not have, " +
			"without checking bpf_ksym_exists first"
	case tooComplex.MatchString(log),
		errors.Is(err, unix.E2BIG) && log == "" && *instructionCount(spec) > 4096:
		f.code = codeTooComplex
		if f.reason == "" {
			f.reason = fmt.Sprintf("it has %d instructions, more than this kernel takes",
				*instructionCount(spec))
		}
	case unknownNumber.MatchString(log):
		f.code = codeUnsupportedHelper
		number, _ := strconv.ParseUint(unknownNumber.FindStringSubmatch(log)[1], 10, 31)
		f.reason = helperReason(number)
	case notForType.MatchString(log):
		match := notForType.FindStringSubmatch(log)
		f.code = codeUnsupportedHelper
		f.reason = fmt.Sprintf("on this kernel, programs of type %s can't call %s",
			programType(spec.Type), match[1])
	case kfuncRefused.MatchString(log):
		match := kfuncRefused.FindStringSubmatch(log)
		f.code, f.reason = codeUnsupportedKfunc, match[2]+match[3]
		if match[1] != "" {
			f.reason = fmt.Sprintf("on this kernel, programs of type %s can't call kfunc %s",
				programType(spec.Type), match[1])
		}
	case noTarget.MatchString(log):
		f.code = codeAttachTargetMissing
	case noFuncInfo.MatchString(log):
		f.code = codeMissingBTF
	case log != "":
		f.code = codeVerifierRejected
		if number, ok := missingHelper(spec); ok && strings.Contains(log, "processed 0 insns") {
			// The verifier refuses a new helper's arguments, such as callbacks, before it checks
			// the helper.
			f.code = codeUnsupportedHelper
			f.reason = helperReason(number)
		}
	case errors.Is(err, unix.ENOMEM):
		f.code, f.reason = codeNoMemory, "the kernel had no memory to load it"
	case errors.Is(err, unix.EFAULT):
		f.code = codeLoadFailed
		f.reason = "the verifier gave up (EFAULT) without a log: most often because the program " +
			"has too many jumps, otherwise because of a bug in the verifier"
	default:
		f.code, f.reason = codeLoadFailed, err.Error()
	}
}

// missingHelper probes for the helpers that a program calls, and returns the first that this kernel
// does not have at all.
func missingHelper(spec *ebpf.ProgramSpec) (uint64, bool) {
	probed := map[int64]bool{}
	for _, instruction := range spec.Instructions {
		number := instruction.Constant
		if !instruction.IsBuiltinCall() || probed[number] {
			continue
		}
		probed[number] = true
		if !anyTypeHas(asm.BuiltinFunc(number)) {
			return uint64(number), true
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

func helperReason(number uint64) string {
	return fmt.Sprintf("this kernel has no helper %s (%d)", helperName(number), number)
}

// helperName returns the name of a helper, such as bpf_loop, as the library knows it.
func helperName(number uint64) string {
	text := asm.BuiltinFunc(number).String() // FnLoop
	rest, found := strings.CutPrefix(text, "Fn")
	if !found {
		return "of this number"
	}
	var name strings.Builder
	name.WriteString("bpf")
	for _, letter := range rest {
		if letter >= 'A' && letter <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(letter)
	}
	return strings.ToLower(name.String())
}

// unsupportedType probes for a program's type if the error may mean that the kernel does not have
// it.
func unsupportedType(spec *ebpf.ProgramSpec, err error) bool {
	if len(logOf(err)) > 0 {
		return false
	}
	possible := errors.Is(err, unix.EINVAL) || errors.Is(err, unix.E2BIG) || errors.Is(err, ebpf.ErrNotSupported)
	return possible && errors.Is(features.HaveProgramType(spec.Type), ebpf.ErrNotSupported)
}

func haveKernelBTF() bool {
	_, err := os.Stat("/sys/kernel/btf/vmlinux")
	return err == nil
}

func needsKernelBTF(spec *ebpf.ProgramSpec) bool {
	switch spec.Type {
	case ebpf.Tracing, ebpf.LSM, ebpf.StructOps:
		return true
	}
	for i := range spec.Instructions {
		if btf.CORERelocationMetadata(&spec.Instructions[i]) != nil {
			return true
		}
	}
	return false
}
