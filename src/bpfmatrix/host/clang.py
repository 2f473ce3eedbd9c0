"""The host's clang, with which bpfmatrix builds its own programs in C for guests."""

import os
import subprocess
from pathlib import Path

from bpfmatrix.errors import ToolMissingError
from bpfmatrix.host import tools

__all__ = ["compiler", "linker_options"]

# Those that ebpf/Makefile prefers to a plain `clang`, so that one clang builds both.
_VERSIONED = ("clang-19", "clang-20", "clang-21", "clang-22")


def compiler() -> Path:
    """Return the clang to build with; ToolMissingError where there is none."""
    versioned = next((path for name in _VERSIONED if (path := tools.find(name))), None)
    return versioned or tools.require("clang", "clang-19")


def linker_options(compiler: Path, arch: str) -> tuple[str, ...]:
    """Return the options that name the linker; ToolMissingError if that is not installed.

    The host's own serves for the host's architecture alone; lld serves for each.
    """
    if arch == os.uname().machine:
        return ()
    # clang prints a bare name for a program that it does not find.
    done = subprocess.run(
        [compiler, "-print-prog-name=ld.lld"], capture_output=True, text=True, check=False
    )
    if not Path(done.stdout.strip()).is_absolute():
        package = compiler.name.replace("clang", "lld")
        raise ToolMissingError(
            f"lld is not installed, with which {compiler.name} links programs for {arch}",
            f"Install {package} (on Debian), or let ./bootstrap do so.",
        )
    return ("-fuse-ld=lld",)
