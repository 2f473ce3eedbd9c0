"""gdb in the verifier, with source and lines, and a panic's trace with them.

`nox -s debug` runs it: see README.md. `kernel_build.py` uses `stops_in_the_verifier` too.
"""

import json
import os
import re
import subprocess

import pytest
import yaml

from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.kernels.formats import guest_core
from tests.integration.rejected_object import compile_rejected
from tests.tool import Finished, ToolProject

# Each is in the sources of its release, and the debug package of the newest 5.10 is in none.
SUITES = {"5.10": "bullseye", "6.1": "bookworm-security", "7.3": "trixie-backports"}

# The bpf(2) system call with BPF_PROG_LOAD, without a library: r0 = 0; exit.
LOADER = """
package main

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// union bpf_attr, up to prog_name.
type attr struct {
	progType, insnCnt      uint32
	insns, license         uint64
	logLevel, logSize      uint32
	logBuf                 uint64
	kernVersion, progFlags uint32
	progName               [16]byte
}

func load(name string) {
	insns, license := [2]uint64{0xb7, 0x95}, []byte("GPL\\x00")
	a := attr{progType: 1, insnCnt: uint32(len(insns))} // BPF_PROG_TYPE_SOCKET_FILTER
	a.insns = uint64(uintptr(unsafe.Pointer(&insns[0])))
	a.license = uint64(uintptr(unsafe.Pointer(&license[0])))
	copy(a.progName[:], name)
	number := map[string]uintptr{"amd64": 321, "arm64": 280}[runtime.GOARCH]
	_, _, err := syscall.Syscall(number, 5, uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a))
	runtime.KeepAlive(insns)
	if err != 0 {
		println(err.Error())
		os.Exit(1)
	}
}

func main() {
	load("") // as a library probes
	load("returns_0")
}
"""


def loader(project: ToolProject, arch: str = "x86_64") -> str:
    """Build an executable that loads a program without a name, and then one with a name."""
    source = project.root / "loads.go"
    source.write_text(LOADER)
    variables = {"GOARCH": ARCHITECTURES[arch].go, "CGO_ENABLED": "0", "GO111MODULE": "off"}
    subprocess.run(
        ["go", "build", "-o", "loads", source.name],
        cwd=project.root,
        env=os.environ | variables,
        check=True,
    )
    return "loads"


def stops_in_the_verifier(project: ToolProject, kernel: str, arch: str = "x86_64") -> Finished:
    """Let gdb stop at the verifier's entry, which is inlined, and look at what it shows there."""
    done = project.invoke(
        *("debug", "--kernel", kernel, "--binary", loader(project, arch)),
        *(
            "--batch",
            "info frame; bpf-insn; bpf-insn 1; bpf-maps; frame function bpf_check; up; bpf-progs",
        ),
    )
    assert done.status == 0, done.output
    assert re.search(
        r"hit Breakpoint 1, do_check \(env=0xffff\w+\) at \S*kernel/bpf/verifier\.c:\d+\n",
        done.output,
    )
    # A function of its own is in tests/debug/test_entry.py.
    assert "inlined into frame 1" in done.output
    # A source line, and those around it.
    assert re.search(
        r"^\d+\tstatic int do_check\(struct bpf_verifier_env \*env\)$", done.output, re.M
    )
    assert "program returns_0, instruction 0 of 2\n=>    0: (b7) r0 = 0\n" in done.output
    assert "program returns_0, instruction 1 of 2\n" in done.output
    assert "there is no map" in done.output
    # The one without a name is loaded, and its file is still open.
    assert re.search(
        r"^id +type +name +insns +address\n\d+ +socket_filter +- +2 +0xffff", done.output, re.M
    )
    return done


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize("kernel", SUITES)
def test_debians_kernels(project: ToolProject, kernel: str, arch: str) -> None:
    project.configure()
    source = {"apt": {"suite": SUITES[kernel]}}
    path = project.root / "kernels.yaml"
    data = yaml.safe_load(path.read_text())
    data["kernels"] = {kernel: {"arch": arch, "source": source}}
    path.write_text(yaml.safe_dump(data))
    stops_in_the_verifier(project, kernel, arch)


def test_a_second_time_and_a_panic(project: ToolProject) -> None:
    project.configure(["6.1"])
    stops_in_the_verifier(project, "6.1")
    again = stops_in_the_verifier(project, "6.1")
    # On a machine that has nothing else to do it is 5 s.
    assert again.seconds < 40, again.output

    done, run = project.run(project.script("crashes", "echo c >/proc/sysrq-trigger; sleep 60"))
    lines = [line for line in run.trace if line.startswith("sysrq_handle_crash+0x")]
    assert re.search(r"  drivers/tty/sysrq\.c:\d+$", lines[0])
    assert lines[0] in done.output


def test_a_line_and_an_editor(project: ToolProject) -> None:
    binary = loader(project)
    words = ("debug", "--kernel", "6.1", "--binary", binary)
    wrong = project.invoke(*words, "--break", "verifyer.c:1", "--batch", "backtrace")
    assert wrong.status == 2
    assert "error: --break verifyer.c:1: No source file named verifyer.c" in wrong.output
    wrong = project.invoke(*words, "--break", "do_chek", "--batch", "backtrace")
    assert "This kernel has do_check, do_check_common" in wrong.output

    done = project.invoke(*words, "--vscode")
    assert done.status == 0
    [wanted] = json.loads((project.root / ".vscode/launch.json").read_text())["configurations"]
    # Its words are gdb's.
    lines = [
        each["text"] for key in ("setup", "postRemoteConnect") for each in wanted[f"{key}Commands"]
    ]
    gdb = subprocess.run(
        ["gdb", "-nx", "-batch", *(word for line in lines for word in ("-ex", line))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(
        r"^Breakpoint 1 at .*: file \S*kernel/bpf/verifier\.c, line \d+\.$", gdb.stdout, re.M
    )


DRGN = """
thread = prog.crashed_thread()
print("task", thread.object.comm.string_().decode())
print("release", prog["init_uts_ns"].name.release.string_().decode())
print(thread.stack_trace())
"""


@pytest.mark.parametrize("kernel", ["6.1", "6.1-arm64"])
def test_the_memory_of_a_guest_that_panicked(project: ToolProject, kernel: str) -> None:
    project.configure([kernel])
    crashes = project.script("crashes", "echo c >/proc/sysrq-trigger; sleep 60")
    _, run = project.run(crashes, kernel=kernel, options=["--dump"])
    [packed] = run.dumps

    done = project.invoke(
        *("debug", "--core", packed),
        *("--batch", "print init_uts_ns.name.release; bpf-progs; frame function panic"),
    )
    assert done.status == 0, done.output
    assert re.search(r"^#\d+ .*in panic \(fmt=.*\) at \S*kernel/panic\.c:\d+$", done.output, re.M)
    assert f'$1 = "{run.release}"' in done.output
    assert "no program is loaded" in done.output

    [vmlinux] = re.findall(r"^symbols +(\S+/vmlinux) ", done.output, re.M)
    unpacked, script = project.root / "vmcore", project.root / "script.py"
    guest_core.unpack(project.root / packed, unpacked)
    script.write_text(DRGN)
    drgn = subprocess.run(
        ["drgn", "--quiet", "-c", unpacked, "-s", vmlinux, script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"task crashes\nrelease {run.release}\n" in drgn.stdout
    assert "sysrq_handle_crash (drivers/tty/sysrq.c:" in drgn.stdout


def test_a_program_of_an_object_by_two_loaders(project: ToolProject) -> None:
    project.configure(["6.1"])
    object = compile_rejected(project)
    words = ("debug", "--kernel", "6.1", "--object", object, "--program", "on_connect")
    batch = "bpf-insn; continue; bpf-insn; continue; bpf-insn; continue; bpf-insn; continue"
    done = project.invoke(*words, "--loader", "libbpf,cilium-ebpf", "--batch", batch)
    # Each loader loads it again for the verifier's log. gdb stops at no other program of a loader.
    assert done.output.count("program on_connect, instruction 0 of 12\n") == 4, done.output
    assert re.search(r"✗ on_connect +libbpf, failed: R0 invalid mem access", done.output)
    assert done.status == 0
    done = project.invoke(*words, "--break", "check_mem_access", "--batch", "bpf-insn")
    assert "program on_connect, instruction 1 of 12\n" in done.output
