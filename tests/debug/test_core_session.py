"""A session with a core file of a guest's memory: its kernel, and how it ends."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from bpfmatrix.debug.core_session import _run, chosen
from bpfmatrix.debug.gdb import Gdb
from bpfmatrix.debug.options import DebugOptions
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.formats.guest_core import GuestCore
from bpfmatrix.kernels.symbols import Symbols


@dataclass(frozen=True)
class Kernel:
    id: str


@dataclass(frozen=True)
class Image:
    release: str
    arch: str = "x86_64"


KNOWN = cast(
    Any,
    [
        (Kernel("6.1"), Image("6.1.0-56")),
        (Kernel("6.1-arm64"), Image("6.1.0-56", "aarch64")),
        (Kernel("6.1-again"), Image("6.1.0-56")),
        (Kernel("7.3"), Image("7.3.4")),
    ],
)


@pytest.mark.parametrize(
    ("release", "arch", "id", "wanted"),
    [
        ("6.1.0-56", "x86_64", None, "6.1"),
        ("6.1.0-56", "aarch64", None, "6.1-arm64"),
        ("6.1.0-56", "x86_64", "6.1-again", "6.1-again"),
        ("6.1.0-56", "x86_64", "7.3", None),
        ("5.10.0-46", "x86_64", None, None),
        ("7.3.4", "aarch64", None, None),
    ],
)
def test_the_kernel_of_a_core(release: str, arch: str, id: str | None, wanted: str | None) -> None:
    core = GuestCore(arch, {"OSRELEASE": release}, (), (0, 0))
    found = chosen(KNOWN, core, id)
    assert (found[0].id if found else None) == wanted


def ending(tmp_path: Path, batch: tuple[str, ...], script: str) -> str:
    """Run a session with a gdb that is a script; return the error's sentence."""
    program = tmp_path / "gdb"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    gdb = Gdb(program, Symbols(tmp_path, None), Cache(tmp_path / "cache"), tmp_path)
    with pytest.raises(BpfmatrixError) as failure:
        asyncio.run(_run(gdb, tmp_path / "commands", DebugOptions(batch=batch)))
    return failure.value.what


def test_it_ends_in_the_sentences_of_other_sessions(tmp_path: Path) -> None:
    report = {"failed": [["foo", 'Undefined command: "foo".']], "left": []}
    said = ending(tmp_path, ("foo",), f"echo '{json.dumps(report)}' >{tmp_path}/batch.json; exit 1")
    assert said == '--batch: gdb could not run `foo`: Undefined command: "foo"'
    assert ending(tmp_path, (), "kill -KILL $$") == "gdb was ended by SIGKILL"
