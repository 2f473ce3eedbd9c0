// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// errNoGenericTarget says that a program can be attached only to something that its own project
// knows.
var errNoGenericTarget = errors.New("not attached: only its own project knows what to attach it to")

// attachTo attaches a loaded program to what its section names. If the section leaves that to the
// loader, it attaches the program to something that every machine has: the loopback device, a new
// cgroup, a socket.
func (w *worker) attachTo(spec *ebpf.ProgramSpec, program *ebpf.Program) (io.Closer, error) {
	kind, target, _ := strings.Cut(strings.TrimPrefix(spec.SectionName, "?"), "/")
	switch spec.Type {
	case ebpf.Kprobe:
		return attachProbe(strings.TrimSuffix(kind, ".s"), target, program)
	case ebpf.TracePoint:
		group, name, found := strings.Cut(target, "/")
		if !found {
			return nil, errNoGenericTarget
		}
		return asCloser(link.Tracepoint(group, name, program, nil))
	case ebpf.RawTracepoint, ebpf.RawTracepointWritable:
		if target == "" {
			return nil, errNoGenericTarget
		}
		return asCloser(link.AttachRawTracepoint(link.RawTracepointOptions{Name: target, Program: program}))
	case ebpf.Tracing:
		if spec.AttachType == ebpf.AttachTraceIter {
			return w.attachIterator(spec, program)
		}
		return asCloser(link.AttachTracing(link.TracingOptions{Program: program}))
	case ebpf.LSM:
		if spec.AttachType == ebpf.AttachLSMCgroup {
			return attachCgroup(spec, program)
		}
		return asCloser(link.AttachLSM(link.LSMOptions{Program: program}))
	case ebpf.Extension:
		return asCloser(link.AttachFreplace(spec.AttachTarget, spec.AttachTo, program))
	case ebpf.StructOps:
		return w.attachStructOps(spec)
	case ebpf.PerfEvent:
		return attachPerfEvent(program)
	case ebpf.CGroupSKB, ebpf.CGroupSock, ebpf.CGroupSockAddr, ebpf.CGroupSockopt, ebpf.CGroupSysctl,
		ebpf.CGroupDevice, ebpf.SockOps:
		return attachCgroup(spec, program)
	case ebpf.XDP:
		return attachXDP(spec, program)
	case ebpf.SchedCLS:
		return attachTC(spec, program)
	case ebpf.FlowDissector, ebpf.SkLookup:
		return attachNetNS(program)
	case ebpf.Netfilter:
		const ipv4, localIn = 2, 1 // NFPROTO_IPV4, NF_INET_LOCAL_IN
		return asCloser(link.AttachNetfilter(link.NetfilterOptions{
			Program: program, ProtocolFamily: ipv4, Hook: localIn, Priority: 1,
		}))
	case ebpf.SkSKB, ebpf.SkMsg:
		return attachSockMap(spec, program)
	case ebpf.SocketFilter:
		return attachSocket(program, unix.SO_ATTACH_BPF)
	case ebpf.SkReuseport:
		return attachSocket(program, unix.SO_ATTACH_REUSEPORT_EBPF)
	}
	return nil, errNoGenericTarget
}

// asCloser converts the result of an attach function. Without it, a nil pointer would become an
// interface that is not nil.
func asCloser[T io.Closer](attached T, err error) (io.Closer, error) {
	if err != nil {
		return nil, err
	}
	return attached, nil
}

// iteratedMaps are the types of maps whose elements an iterator can go through (the check functions of
// kernel/bpf/map_iter.c, net/core/bpf_sk_storage.c and net/core/sock_map.c).
var iteratedMaps = map[string][]ebpf.MapType{
	"bpf_map_elem": {
		ebpf.Hash, ebpf.LRUHash, ebpf.Array, ebpf.PerCPUHash, ebpf.LRUCPUHash, ebpf.PerCPUArray,
	},
	"bpf_sk_storage_map": {ebpf.SkStorage},
	"sockmap":            {ebpf.SockMap, ebpf.SockHash},
}

// attachIterator attaches an iterator. One that goes through a map gets the first map of its object
// that the kernel takes for it: which one it is for, only the project knows.
func (w *worker) attachIterator(spec *ebpf.ProgramSpec, program *ebpf.Program) (io.Closer, error) {
	types, needsMap := iteratedMaps[spec.AttachTo]
	if !needsMap {
		return asCloser(link.AttachIter(link.IterOptions{Program: program}))
	}
	for _, name := range slices.Sorted(maps.Keys(w.object.spec.Maps)) {
		if !slices.Contains(types, w.object.spec.Maps[name].Type) {
			continue
		}
		m, _, failure := w.object.makeMap(name, w.types)
		if failure != nil {
			continue
		}
		attached, err := link.AttachIter(link.IterOptions{Program: program, Map: m})
		if err == nil {
			return attached, nil
		}
	}
	return nil, errNoGenericTarget
}

// attachStructOps registers the struct that a program is a function of, with its other functions.
func (w *worker) attachStructOps(program *ebpf.ProgramSpec) (io.Closer, error) {
	kind, _, _ := strings.Cut(program.AttachTo, ":")
	name := w.object.structOpsOf(kind)
	if name == "" {
		return nil, errNoGenericTarget
	}
	programs := map[string]*ebpf.ProgramSpec{}
	for _, other := range w.object.spec.Programs {
		if other.Type != ebpf.StructOps || !strings.HasPrefix(other.AttachTo, kind+":") {
			continue
		}
		prepared, failure, err := w.prepare(other)
		if failure != nil {
			err = errors.New(strings.Join(failure.Words, ": "))
		}
		if err != nil {
			return nil, err
		}
		programs[other.Name] = prepared
	}
	collection, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{
		Maps:      map[string]*ebpf.MapSpec{name: w.object.spec.Maps[name]},
		Programs:  programs,
		Types:     w.object.spec.Types,
		ByteOrder: w.object.spec.ByteOrder,
	}, ebpf.CollectionOptions{Cache: w.types})
	if err != nil {
		return nil, err
	}
	attached, err := link.AttachStructOps(link.StructOpsOptions{Map: collection.Maps[name]})
	if err != nil {
		collection.Close()
		return nil, err
	}
	return closers{func() error { collection.Close(); return nil }, attached.Close}, nil
}

func attachProbe(kind, target string, program *ebpf.Program) (io.Closer, error) {
	function, offset := target, uint64(0)
	if name, text, found := strings.Cut(target, "+"); found {
		if value, err := strconv.ParseUint(text, 0, 32); err == nil {
			function, offset = name, value
		}
	}
	switch kind {
	case "uprobe", "uretprobe":
		return attachUprobe(kind == "uretprobe", target, program)
	case "kprobe", "kretprobe", "ksyscall", "kretsyscall", "kprobe.multi", "kretprobe.multi":
	default:
		return nil, errNoGenericTarget
	}
	if function == "" {
		return nil, errNoGenericTarget
	}
	switch kind {
	case "kprobe":
		return asCloser(link.Kprobe(function, program, &link.KprobeOptions{Offset: offset}))
	case "kretprobe":
		return asCloser(link.Kretprobe(function, program, nil))
	case "ksyscall":
		return asCloser(link.Kprobe("sys_"+function, program, nil)) // the library adds __x64_ or __arm64_
	case "kretsyscall":
		return asCloser(link.Kretprobe("sys_"+function, program, nil))
	}
	symbols, err := matchingFunctions(function)
	if err != nil {
		return nil, err
	}
	if kind == "kprobe.multi" {
		return asCloser(link.KprobeMulti(program, link.KprobeMultiOptions{Symbols: symbols}))
	}
	return asCloser(link.KretprobeMulti(program, link.KprobeMultiOptions{Symbols: symbols}))
}

// matchingFunctions returns the kernel's functions that can be traced and match a pattern with *
// and ?.
func matchingFunctions(pattern string) ([]string, error) {
	file, err := os.Open("/sys/kernel/tracing/available_filter_functions")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var found []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, _, _ := strings.Cut(lines.Text(), " ")
		if matches, _ := path.Match(pattern, name); matches {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no function matches %s: %w", pattern, os.ErrNotExist)
	}
	return found, nil
}

// attachUprobe attaches to the function that the section names as FILE:FUNCTION. If the section
// names none, it attaches to the entry point of this executable.
func attachUprobe(onReturn bool, target string, program *ebpf.Program) (io.Closer, error) {
	file, function, _ := strings.Cut(target, ":")
	options := &link.UprobeOptions{}
	if file == "" {
		file, function = "/proc/self/exe", "entry"
		address, err := entryOffset(file)
		if err != nil {
			return nil, err
		}
		options.Address = address
	} else if _, err := os.Stat(file); err != nil || function == "" {
		return nil, errNoGenericTarget // of the project's files, the guest has only the objects
	}
	executable, err := link.OpenExecutable(file)
	if err != nil {
		return nil, err
	}
	if onReturn {
		return asCloser(executable.Uretprobe(function, program, options))
	}
	return asCloser(executable.Uprobe(function, program, options))
}

// entryOffset returns the offset in an executable file of its entry point.
func entryOffset(name string) (uint64, error) {
	file, err := elf.Open(name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_LOAD && file.Entry-segment.Vaddr < segment.Filesz {
			return file.Entry - segment.Vaddr + segment.Off, nil
		}
	}
	return 0, errors.New("the entry point is in no segment")
}

// closers are functions that Close calls from the last to the first.
type closers []func() error

func (c closers) Close() error {
	var errs []error
	for i := len(c) - 1; i >= 0; i-- {
		errs = append(errs, c[i]())
	}
	return errors.Join(errs...)
}

func attachPerfEvent(program *ebpf.Program) (io.Closer, error) {
	fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size: unix.PERF_ATTR_SIZE_VER0, Sample: 1_000_000,
	}, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open a perf event: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, program.FD()); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return closers{func() error { return unix.Close(fd) }}, nil
}

// attachCgroup attaches to a new cgroup, which no process is in.
func attachCgroup(spec *ebpf.ProgramSpec, program *ebpf.Program) (io.Closer, error) {
	folder, err := os.MkdirTemp("/sys/fs/cgroup", "bpfload")
	if err != nil {
		return nil, err
	}
	attached, err := link.AttachCgroup(link.CgroupOptions{
		Path: folder, Attach: spec.AttachType, Program: program,
	})
	if err != nil {
		os.Remove(folder)
		return nil, err
	}
	return closers{func() error { return os.Remove(folder) }, attached.Close}, nil
}

func attachXDP(spec *ebpf.ProgramSpec, program *ebpf.Program) (io.Closer, error) {
	if spec.AttachType == ebpf.AttachXDPDevMap || spec.AttachType == ebpf.AttachXDPCPUMap {
		return nil, errNoGenericTarget
	}
	loopback, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, err
	}
	return asCloser(link.AttachXDP(link.XDPOptions{
		Program: program, Interface: loopback.Index, Flags: link.XDPGenericMode,
	}))
}

func attachTC(spec *ebpf.ProgramSpec, program *ebpf.Program) (io.Closer, error) {
	if spec.AttachType == ebpf.AttachNetkitPrimary || spec.AttachType == ebpf.AttachNetkitPeer {
		return nil, errNoGenericTarget
	}
	loopback, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, err
	}
	explicit := spec.AttachType == ebpf.AttachTCXIngress || spec.AttachType == ebpf.AttachTCXEgress
	attachType := ebpf.AttachTCXIngress
	if explicit {
		attachType = spec.AttachType
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(spec.SectionName, "?"), "/")
	attached, err := link.AttachTCX(link.TCXOptions{
		Interface: loopback.Index, Program: program, Attach: attachType,
	})
	if err == nil || kind == "tcx" {
		return asCloser(attached, err)
	}
	return attachTCFilter(loopback.Index, attachType == ebpf.AttachTCXEgress, program)
}

func attachNetNS(program *ebpf.Program) (io.Closer, error) {
	namespace, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	return asCloser(link.AttachNetNs(int(namespace.Fd()), program))
}

func attachSockMap(spec *ebpf.ProgramSpec, program *ebpf.Program) (io.Closer, error) {
	attachType := spec.AttachType
	if spec.Type == ebpf.SkSKB && attachType == ebpf.AttachNone {
		attachType = ebpf.AttachSkSKBStreamVerdict
	}
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.SockMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return nil, err
	}
	err = link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: sockets.FD(), Program: program, Attach: attachType,
	})
	if err != nil {
		sockets.Close()
		return nil, err
	}
	return closers{sockets.Close, func() error {
		return link.RawDetachProgram(link.RawDetachProgramOptions{
			Target: sockets.FD(), Program: program, Attach: attachType,
		})
	}}, nil
}

func attachSocket(program *ebpf.Program, option int) (io.Closer, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if option == unix.SO_ATTACH_REUSEPORT_EBPF {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, program.FD())
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return closers{func() error { return unix.Close(fd) }}, nil
}
