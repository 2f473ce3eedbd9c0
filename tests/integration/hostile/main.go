// Command hostile does in a guest what no well-behaved test does: it leaves everything behind that a
// process can leave, complains through the kernel, or forges its verdict.
//
//	hostile leave    leave processes, mounts, cgroups, eBPF programs and more behind
//	hostile check    exit with 1, and say why, if anything of that is there
//	hostile forge    take the control port from init, and report a pass in init's name
//	hostile listen   take the control port from init, and print what can be read from it
//	hostile register register a congestion control that stays without a process (struct_ops)
//	hostile lock-up  make the kernel complain of a processor that does not schedule
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	pinFolder  = "/sys/fs/bpf"
	mountPoint = "/tmp/a mounted folder"
	netns      = "/run/netns/left"
	kprobes    = "/sys/kernel/tracing/kprobe_events"
	uprobes    = "/sys/kernel/tracing/uprobe_events"
	marker     = "the-one-that-survives"
)

func main() {
	log.SetFlags(0)
	modes := map[string]func() error{
		"leave": leave, "check": check, "forge": forge, "listen": listen,
		"register": register, "lock-up": lockUp,
		marker: func() error { time.Sleep(time.Hour); return nil },
	}
	if err := modes[os.Args[1]](); err != nil {
		log.Fatal(err)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Panic(err)
	}
	return value
}

func program(kind ebpf.ProgramType, verdict int32) *ebpf.Program {
	return must(ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "left",
		Type:         kind,
		License:      "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	}))
}

func leave() error {
	steps := []func() error{
		leaveProcesses, leaveMount, leaveNetwork, leavePins, leaveCgroupPrograms, leaveDevicePrograms,
		leaveFlowDissector, leaveProbes,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// leaveProcesses starts a process outside of the test's cgroup and session, and one that is process
// 1 of a PID namespace.
func leaveProcesses() error {
	if err := os.MkdirAll(cgroupRoot+"/left/inner", 0o755); err != nil {
		return err
	}
	for _, flags := range []uintptr{0, syscall.CLONE_NEWPID | syscall.CLONE_NEWNS} {
		child := exec.Command("/proc/self/exe", marker)
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: flags}
		if err := child.Start(); err != nil {
			return err
		}
		id := []byte(fmt.Sprint(child.Process.Pid))
		if err := os.WriteFile(cgroupRoot+"/left/inner/cgroup.procs", id, 0); err != nil {
			return err
		}
	}
	return nil
}

func leaveMount() error {
	if err := os.MkdirAll(mountPoint, 0o755); err != nil {
		return err
	}
	return unix.Mount("left", mountPoint, "tmpfs", 0, "")
}

// leaveNetwork leaves a device, and a network namespace with a name, as `ip netns add` makes it.
func leaveNetwork() error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "left0"
	if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attributes}); err != nil {
		return fmt.Errorf("a device: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(netns), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(netns, nil, 0o600); err != nil {
		return err
	}
	holder := exec.Command("/proc/self/exe", marker)
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := holder.Start(); err != nil {
		return err
	}
	defer func() { _ = holder.Process.Kill() }()
	source := fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid)
	return unix.Mount(source, netns, "", unix.MS_BIND, "")
}

func leavePins() error {
	if err := os.MkdirAll(pinFolder+"/left/deeper", 0o755); err != nil {
		return err
	}
	if err := program(ebpf.SocketFilter, 0).Pin(pinFolder + "/left/deeper/program"); err != nil {
		return err
	}
	values := must(ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1,
	}))
	return values.Pin(pinFolder + "/map")
}

// leaveCgroupPrograms attaches programs without links, which would end with this process.
func leaveCgroupPrograms() error {
	for _, place := range []string{cgroupRoot, cgroupRoot + "/bpfmatrix", cgroupRoot + "/left/inner"} {
		cgroup := must(os.Open(place))
		err := link.RawAttachProgram(link.RawAttachProgramOptions{
			Target:  int(cgroup.Fd()),
			Program: program(ebpf.CGroupSKB, 1),
			Attach:  ebpf.AttachCGroupInetEgress,
			Flags:   unix.BPF_F_ALLOW_MULTI,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
	}
	return nil
}

// leaveDevicePrograms attaches programs to the loopback device, by XDP and by tc.
func leaveDevicePrograms() error {
	device := must(netlink.LinkByName("lo"))
	const xdpPass = 2
	if err := netlink.LinkSetXdpFd(device, program(ebpf.XDP, xdpPass).FD()); err != nil {
		return fmt.Errorf("XDP: %w", err)
	}
	index := device.Attrs().Index
	tcx := link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: index, Program: program(ebpf.SchedCLS, 0), Attach: ebpf.AttachTCXIngress,
	})
	if tcx != nil && !errors.Is(tcx, unix.EINVAL) { // as kernels before 6.6 answer
		return fmt.Errorf("tcx: %w", tcx)
	}
	clsact := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: index,
			Handle:    netlink.MakeHandle(0xffff, 0),
			Parent:    netlink.HANDLE_CLSACT,
		},
		QdiscType: "clsact",
	}
	if err := netlink.QdiscAdd(clsact); err != nil {
		return fmt.Errorf("clsact: %w", err)
	}
	return netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index,
			Parent:    netlink.HANDLE_MIN_INGRESS,
			Handle:    1,
			Protocol:  unix.ETH_P_ALL,
		},
		Fd:           program(ebpf.SchedCLS, 0).FD(),
		Name:         "left",
		DirectAction: true,
	})
}

// leaveFlowDissector attaches a program to the network namespace of this process.
func leaveFlowDissector() error {
	const bpfOK = 0
	return link.RawAttachProgram(link.RawAttachProgramOptions{
		Program: program(ebpf.FlowDissector, bpfOK),
		Attach:  ebpf.AttachFlowDissector,
	})
}

// leaveProbes makes events of tracefs for a function of the kernel, which is enabled, and for a place
// in this program.
func leaveProbes() error {
	own := fmt.Sprintf("p:left/own %s:0x1000\n", must(os.Executable()))
	for path, text := range map[string]string{
		kprobes: "p:left/open do_sys_openat2\n",
		uprobes: own,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return os.WriteFile("/sys/kernel/tracing/events/left/open/enable", []byte("1"), 0o600)
}

// check looks for what leave leaves behind; what ends a moment after its process gets that moment.
func check() error {
	var found []string
	for range 100 {
		if found = leftovers(); len(found) == 0 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New(strings.Join(found, "\n"))
}

func leftovers() []string {
	var found []string
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range commands {
		if text, _ := os.ReadFile(path); strings.Contains(string(text), marker) {
			found = append(found, "a process: "+path)
		}
	}
	for _, place := range []string{cgroupRoot + "/left", pinFolder + "/left", pinFolder + "/map", netns} {
		if _, err := os.Lstat(place); err == nil {
			found = append(found, "a file: "+place)
		}
	}
	mounts := must(os.ReadFile("/proc/self/mountinfo"))
	for _, place := range []string{"mounted", "netns"} {
		if strings.Contains(string(mounts), place) {
			found = append(found, "a mount: "+place)
		}
	}
	for _, path := range []string{kprobes, uprobes} {
		if probes := must(os.ReadFile(path)); len(probes) > 0 {
			found = append(found, "a probe: "+string(probes))
		}
	}
	if _, err := netlink.LinkByName("left0"); err == nil {
		found = append(found, "a network device")
	}
	if id, err := ebpf.ProgramGetNextID(0); err == nil {
		loaded := must(ebpf.NewProgramFromID(id))
		info := must(loaded.Info())
		if info.Name == "left" {
			found = append(found, fmt.Sprintf("an eBPF program of the type %s", info.Type))
		}
	}
	return found
}

// controlPort duplicates the descriptor of init that is connected to the host.
func controlPort() (int, error) {
	const initsPort = 3
	init, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return 0, err
	}
	return unix.PidfdGetfd(init, initsPort, 0)
}

func forge() error {
	port, err := controlPort()
	if err != nil {
		return err
	}
	boundary := strings.Repeat("0", 32)
	fields := "status=0 limit=no oom_kills=0 tainted=0 before=0 full= cores=0"
	lines := fmt.Sprintf("exited 1 %s %s\nexited 1 %s\ndone %s\n", boundary, fields, fields, boundary)
	if _, err := unix.Write(port, []byte(lines)); err != nil {
		return err
	}
	return errors.New("this test fails")
}

func listen() error {
	port, err := controlPort()
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(port, true); err != nil {
		return err
	}
	line := make([]byte, 1<<16)
	for range 50 {
		switch n, err := unix.Read(port, line); {
		case err == nil && n > 0:
			return fmt.Errorf("read %q", line[:n])
		case err != nil && err != unix.EAGAIN:
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return unix.SetNonblock(port, false)
}

func register() error {
	spec := must(ebpf.LoadCollectionSpec("/payload/structops.bpf.o"))
	// Without this flag, it is not registered by a link, which would end with this process, but as
	// soon as it is in the map.
	spec.Maps["calm"].Flags &^= unix.BPF_F_LINK
	objects, err := ebpf.NewCollection(spec)
	if err != nil {
		return err
	}
	defer objects.Close()
	known := must(os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control"))
	if !strings.Contains(string(known), "calm") {
		return fmt.Errorf("it is not registered: %s", known)
	}
	return nil
}

// lockUp runs an eBPF program that keeps a processor busy for seconds, while the kernel watches for
// processors that do not schedule for more than two.
func lockUp() error {
	if err := os.WriteFile("/proc/sys/kernel/watchdog_thresh", []byte("1"), 0); err != nil {
		return err
	}
	objects := must(ebpf.LoadCollection("/payload/busy.bpf.o"))
	defer objects.Close()
	_, err := objects.Programs["busy"].Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	return err
}
