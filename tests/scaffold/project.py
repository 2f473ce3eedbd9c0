"""Projects of tests: files by their texts, and ELF files that are nothing but headers."""

import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bpfmatrix.scaffold import findings
from bpfmatrix.scaffold.findings import Findings
from bpfmatrix.scaffold.tree import Tree, look_at

__all__ = ["EBPF", "Files", "executable", "find", "make"]

Files = Mapping[str, str | bytes]

_X86_64, _EBPF = 62, 247


def _elf(machine: int, type: int, interpreter: bool = False) -> bytes:
    """Return an ELF file of a header, and of a segment PT_INTERP if it is dynamic."""
    segments = 1 if interpreter else 0
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0"),
        *(type, machine, 1, 0, 64 if segments else 0, 0, 0, 64, 56, segments, 64, 0, 0),
    )
    loader = b"/lib64/ld-linux-x86-64.so.2\0"
    segment = struct.pack("<IIQQQQQQ", 3, 4, 64 + 56, 0, 0, len(loader), len(loader), 1)
    return header + (segment + loader if interpreter else b"")


EBPF = _elf(_EBPF, 1)
"""An eBPF object."""


def executable(machine: int = _X86_64, *, is_static: bool = True) -> bytes:
    """Return an executable."""
    return _elf(machine, 2, not is_static)


def make(root: Path, files: Files, *, git: bool = False) -> Tree:
    """Write files, and list them. Those that begin as ELF files do are executable."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data)
        if data.startswith(b"\x7fELF"):
            path.chmod(0o755)
    if git:
        subprocess.run(["git", "init", "-q", str(root)], check=True)
    return look_at(root)


def find(root: Path, files: Files, *, git: bool = False) -> Findings:
    """Return what is found in a project with these files, on a host of x86_64."""
    return findings.find(make(root, files, git=git), "x86_64")
