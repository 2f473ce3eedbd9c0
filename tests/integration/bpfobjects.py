"""Small eBPF objects in C (`objects/`), compiled when a test needs them."""

import functools
import re
import subprocess
from pathlib import Path

from ..verify.objectfiles import clang

SOURCES = sorted((Path(__file__).parent / "objects").glob("*.bpf.c"))


@functools.cache
def _includes() -> tuple[str, ...]:
    """Return where clang looks for the host's headers, as ebpf/Makefile does."""
    said = subprocess.run(
        [clang(), "-v", "-E", "-x", "c", "/dev/null"], capture_output=True, text=True, check=True
    ).stderr
    listed = re.search(r"^#include <.*?\n(.*?)^End of search", said, re.M | re.S)
    assert listed, said
    folders = (line.split()[0] for line in listed[1].splitlines())
    return tuple(f"-idirafter{folder}" for folder in folders)


def compile_object(source: Path, target: Path, *options: str) -> None:
    """Compile one source; legacy.bpf.c is the one without BTF."""
    debug = () if source.name.startswith("legacy") else ("-g",)
    subprocess.run(
        [
            *(clang(), "-target", "bpf", "-mcpu=v2", "-O2", *debug, *_includes()),
            *("-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", *options),
            *("-c", source.name, "-o", target),
        ],
        cwd=source.parent,
        check=True,
    )
