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

// A refusal is why a program did not load.
type refusal struct{ code, reason, errno string }

func (r *refusal) into(result *programEvent) {
	result.Outcome, result.Code, result.Errno = failed, r.code, r.errno
	result.Reason = oneLine(r.reason)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// classifyMap says why a map could not be created. Kernels answer EINVAL to a type that they do not
// know, and to much else: a probe tells.
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
			"map %s (%s) has no size: give the one of run time by --map-size %s=ENTRIES",
			name, kind, name), err}
	}
	return &mapError{codeMapCreateFailed,
		strings.TrimPrefix(err.Error(), "map "+name+": ") + " (map " + name + ")", err}
}

// What the verifier says; the first group is a name or a number.
var (
	// kernel/bpf/verifier.c: check_helper_call, in all releases.
	unknownNumber = regexp.MustCompile(`invalid func unknown#(\d+)`)
	// The same: a helper that this kernel has, but not for programs of this type. Until 6.12 and since.
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

// classify says why a program did not load: from the loader's error, the kernel's answer and the
// verifier's words, and from probes wherever the kernel gives the same answer to different questions.
func classify(o *object, spec *ebpf.ProgramSpec, err error) *refusal {
	r := &refusal{reason: err.Error(), errno: errno(err)}
	text := err.Error()
	switch {
	case needsKernelBTF(spec) && !haveKernelBTF() && errors.Is(err, ebpf.ErrNotSupported),
		strings.Contains(text, "load kernel spec"):
		r.code = codeMissingBTF
		r.reason = "it needs the kernel's BTF, and this kernel has none (CONFIG_DEBUG_INFO_BTF)"
	case unsupportedType(spec, err):
		r.code = codeUnsupportedProgramType
		r.reason = "this kernel has no program type " + programType(spec.Type)
	case strings.Contains(text, "apply CO-RE relocations"):
		r.code = codeRelocationFailed
		r.reason = after(text, "apply CO-RE relocations: ")
	case strings.Contains(text, "resolve .kconfig"), strings.Contains(text, "resolve .ksyms"):
		r.code = codeRelocationFailed
		r.reason = after(after(text, "resolve .kconfig: "), "resolve .ksyms: ")
	case strings.Contains(text, "fixing up kfuncs"):
		r.code = codeUnsupportedKfunc
		r.reason = kfuncReason(after(text, "fixing up kfuncs: "))
	case strings.Contains(text, "load BTF:"), strings.Contains(text, "marshal ext_infos"):
		r.code = codeBadBTF
		r.reason = "the kernel refused the object's BTF: " + after(text, "load BTF: ")
	case strings.Contains(text, "struct_ops") && errors.Is(err, btf.ErrNotFound),
		strings.Contains(text, "not found in"), strings.Contains(text, ": attach "):
		r.code = codeAttachTargetMissing
		r.reason = targetReason(spec, err)
	default:
		classifyRejection(o, spec, err, r)
	}
	return r
}

func after(text, words string) string {
	if _, rest, found := strings.Cut(text, words); found {
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
		return "this kernel has several functions of the name " + spec.AttachTo
	}
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, btf.ErrNotFound) {
		return fmt.Sprintf("this kernel has no %s, or not in its BTF", targetName(spec))
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

func classifyRejection(o *object, spec *ebpf.ProgramSpec, err error, r *refusal) {
	lines := logOf(err)
	log := strings.Join(lines, "\n")
	objection := lastObjection(lines)
	r.reason = objection
	switch {
	case strings.Contains(err.Error(), "bad CO-RE relocation"):
		r.code, r.reason = codeRelocationFailed, "CO-RE: a type or field that this kernel does not have"
		r.errno = "EINVAL"
	case strings.Contains(err.Error(), "unknown kfunc"):
		r.code, r.errno = codeUnsupportedKfunc, "EINVAL"
		r.reason = "it calls a weak kfunc that this kernel does not have, without asking bpf_ksym_exists"
	case tooComplex.MatchString(log),
		errors.Is(err, unix.E2BIG) && log == "" && *instructionCount(spec) > 4096:
		r.code = codeTooComplex
		if r.reason == "" {
			r.reason = fmt.Sprintf("it has %d instructions, more than this kernel takes",
				*instructionCount(spec))
		}
	case unknownNumber.MatchString(log):
		r.code = codeUnsupportedHelper
		number, _ := strconv.ParseUint(unknownNumber.FindStringSubmatch(log)[1], 10, 31)
		r.reason = fmt.Sprintf("this kernel has no helper %s (%d)", helperName(number), number)
	case notForType.MatchString(log):
		match := notForType.FindStringSubmatch(log)
		r.code = codeUnsupportedHelper
		r.reason = fmt.Sprintf("on this kernel, programs of type %s can't call %s",
			programType(spec.Type), match[1])
	case kfuncRefused.MatchString(log):
		match := kfuncRefused.FindStringSubmatch(log)
		r.code, r.reason = codeUnsupportedKfunc, match[2]+match[3]
		if match[1] != "" {
			r.reason = fmt.Sprintf("on this kernel, programs of type %s can't call kfunc %s",
				programType(spec.Type), match[1])
		}
	case noTarget.MatchString(log):
		r.code = codeAttachTargetMissing
	case noFuncInfo.MatchString(log):
		r.code = codeMissingBTF
	case log != "":
		r.code = codeVerifierRejected
		if number, ok := missingHelper(spec); ok && strings.Contains(log, "processed 0 insns") {
			// What comes along with a helper, such as callbacks, is refused before the helper is looked at.
			r.code = codeUnsupportedHelper
			r.reason = fmt.Sprintf("this kernel has no helper %s (%d)", helperName(number), number)
		}
	case errors.Is(err, unix.ENOMEM):
		r.code, r.reason = codeNoMemory, "the kernel had no memory to load it"
	case errors.Is(err, unix.EFAULT):
		r.code = codeLoadFailed
		r.reason = "the verifier gave up (EFAULT), and its log can't be had: " +
			"mostly because of too many jumps, else because of a bug of its own"
	default:
		r.code, r.reason = codeLoadFailed, err.Error()
	}
}

// missingHelper probes for the helpers that a program calls, and returns the first that this kernel
// does not have at all.
func missingHelper(spec *ebpf.ProgramSpec) (uint64, bool) {
	asked := map[int64]bool{}
	for _, instruction := range spec.Instructions {
		number := instruction.Constant
		if !instruction.IsBuiltinCall() || asked[number] {
			continue
		}
		asked[number] = true
		if !anyTypeHas(asm.BuiltinFunc(number)) {
			return uint64(number), true
		}
	}
	return 0, false
}

// anyTypeHas probes for a helper in programs of types that together may call nearly all of them: the
// library answers the same where a kernel lacks a helper and where a type may not call it.
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

// unsupportedType probes for the type where the kernel's answer may mean that it lacks it.
func unsupportedType(spec *ebpf.ProgramSpec, err error) bool {
	if len(logOf(err)) > 0 {
		return false
	}
	may := errors.Is(err, unix.EINVAL) || errors.Is(err, unix.E2BIG) || errors.Is(err, ebpf.ErrNotSupported)
	return may && errors.Is(features.HaveProgramType(spec.Type), ebpf.ErrNotSupported)
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
