"""Object files for the tests: compiled from C, or broken on purpose."""

import functools
import re
import subprocess
from pathlib import Path

from elftools.elf.elffile import ELFFile

from bpfmatrix.host import tools
from tests.tool import REPOSITORY

__all__ = ["REJECTED", "clang", "compiled", "overwrite_section"]

# A lookup's result used without a check, and a program that loads beside it.
REJECTED = """\
#include "kernel_types.h"

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

SEC("raw_tp/sys_enter")
int unchecked(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 key = ctx->args[1];
	__u64 *count = bpf_map_lookup_elem(&counts, &key);

	*count += 1;
	return 0;
}

SEC("raw_tp/sys_enter")
int fine(struct bpf_raw_tracepoint_args *ctx)
{
	return 0;
}
"""


@functools.cache
def clang() -> Path:
    """Return the path of the clang that ebpf/Makefile chooses."""
    makefile = (REPOSITORY / "ebpf/Makefile").read_text()
    (first,) = re.findall(r"^CLANG := \$\(call first_of,(.*)\)$", makefile, re.M)
    return next(tool for name in first.split() if (tool := tools.find(name)))


def compiled(source: str, target: Path, *, machine: str = "bpf", debug: bool = True) -> Path:
    """Compile C for eBPF, with the headers of this repository's own programs; returns `target`.

    Without `debug`, the object has no BTF.
    """
    code = target.with_suffix(".c")
    target.parent.mkdir(parents=True, exist_ok=True)
    code.write_text(source)
    options = (
        "-target",
        machine,
        "-mcpu=v2",
        "-O2",
        *(["-g"] if debug else []),
        "-Wall",
        "-Werror",
    )
    headers = (f"-I{REPOSITORY / 'ebpf'}", "-idirafter", f"/usr/include/{_multiarch()}")
    command = [str(clang()), *options, *headers, "-c", str(code), "-o", str(target)]
    subprocess.run(command, check=True)
    return target


def overwrite_section(path: Path, name: str, filling: bytes) -> None:
    """Replace what a section of an ELF file holds by `filling`, repeated up to the same size."""
    with path.open("rb+") as file:
        section = ELFFile(file).get_section_by_name(name)
        assert section is not None
        size = section["sh_size"]
        file.seek(section["sh_offset"])
        file.write((filling * size)[:size])


def _multiarch() -> str:
    done = subprocess.run(
        [clang(), "-print-target-triple"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().replace("-pc-", "-")
