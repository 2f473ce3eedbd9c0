"""A build hook of hatch: it builds bpfmatrix's own guest programs into a wheel.

Go builds the supervisor of `invoke verify`, its loader for cilium/ebpf, and the tracer of `invoke
profile-python`; clang builds the loader for libbpf, the tracer's eBPF object and the guest's small
programs in C; cargo builds the loader for aya. All but the object are built once for each
architecture. The wheel then works on machines that have no compiler.

A wheel has all of them, or it is not built: the error names each tool that is missing. Two
variables leave programs out on purpose, for builds that are to be faster or that lack a compiler.
The installed wheel says so where such a program is needed.

    BPFMATRIX_WHEEL_ARCHITECTURES=x86_64,aarch64   only for guests of these architectures
    BPFMATRIX_WHEEL_LOADERS=libbpf,cilium-ebpf     only these loaders of `invoke verify`
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
SETTINGS = ("BPFMATRIX_WHEEL_ARCHITECTURES", "BPFMATRIX_WHEEL_LOADERS")
TRACER_OBJECT = "python_tracer.bpf.o"

# The package's own code builds the programs. Where a wheel is made, bpfmatrix is not installed, but
# build-system.requires of pyproject.toml has what this code needs.
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
from bpfmatrix.errors import BpfmatrixError, ToolMissingError, UsageError  # noqa: E402
from bpfmatrix.guest import programs as guest_programs  # noqa: E402
from bpfmatrix.host import clang, tools  # noqa: E402
from bpfmatrix.host.architecture import ARCHITECTURES, DEFAULT  # noqa: E402
from bpfmatrix.host.cache import Cache  # noqa: E402
from bpfmatrix.payload import incremental, shipped  # noqa: E402
from release import notices  # noqa: E402


@dataclass(frozen=True)
class Choice:
    """What a wheel is to have: all architectures and loaders, or those that SETTINGS name."""

    architectures: tuple[str, ...]
    loaders: tuple[str, ...]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Choice":
        """Read the settings; UsageError names a word that is none of those that there are."""
        architectures, loaders = SETTINGS
        return cls(
            _chosen(architectures, environment, tuple(ARCHITECTURES)),
            _chosen(loaders, environment, tuple(shipped.LOADERS)),
        )

    def programs(self) -> Iterator[tuple[shipped.Program, str]]:
        """Give each program with each architecture that it is to be built for."""
        left_out = {shipped.LOADERS[name] for name in set(shipped.LOADERS) - set(self.loaders)}
        for program in shipped.PROGRAMS.values():
            if program not in left_out:
                yield from ((program, a) for a in self.architectures if a in program.architectures)

    def left_out(self) -> str:
        """Return the settings that leave something out, for people; empty if none does."""
        chosen = zip(SETTINGS, (self.architectures, self.loaders), strict=True)
        everything = (tuple(ARCHITECTURES), tuple(shipped.LOADERS))
        said = [f"{name}={','.join(words)}" for name, words in chosen if words not in everything]
        return " ".join(said)


def _chosen(name: str, environment: Mapping[str, str], known: tuple[str, ...]) -> tuple[str, ...]:
    words = environment.get(name, "").split(",") if environment.get(name) else known
    if unknown := [word for word in words if word not in known]:
        raise UsageError(f"{name}: {unknown[0]!r} is none of {', '.join(known)}")
    return tuple(word for word in known if word in words)


def check_tools(choice: Choice) -> None:
    """Raise one ToolMissingError that names all tools and headers that a build lacks."""
    checks: list[Callable[[], object]] = [
        *(lambda p=program, a=arch: p.check_tools(a) for program, arch in choice.programs()),
        *(
            lambda a=arch: clang.linker_options(clang.compiler(), a)
            for arch in choice.architectures
        ),
        lambda: tools.require("make", "make"),
        lambda: _require_header("bpf/bpf_helpers.h", "libbpf-dev"),
        lambda: _require_header("linux/bpf.h", "linux-libc-dev"),
    ]
    # Several programs need the same tool, and say so with the same words.
    missing: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except ToolMissingError as error:
            missing[f"- {error.what}. {error.advice}"] = None
    if missing:
        raise ToolMissingError(
            "\n".join(("a wheel of bpfmatrix can't be built here:", *missing)),
            f"To leave programs out, set {' or '.join(SETTINGS)} (docs/releasing.md).",
        )


def _require_header(name: str, package: str) -> None:
    folders = ("/usr/include", "/usr/local/include", f"/usr/include/{os.uname().machine}-linux-gnu")
    if not any(Path(folder, name).exists() for folder in folders):
        raise ToolMissingError(f"the header {name} is missing", f"Install {package} (on Debian).")


def build(choice: Choice, folder: Path, say: Callable[..., None]) -> Iterator[Path]:
    """Build the programs into a folder, and give the files that belong into the wheel's `loader`.

    BpfmatrixError if one can't be built, before any is built where a tool is missing.
    """
    check_tools(choice)
    cache = Cache.default()
    for program, arch in choice.programs():
        target = folder / f"{program.name}-{arch}"
        shipped.build(program, arch, cache, target, say)
        yield target
    for source in guest_programs.sources():
        for arch in choice.architectures:
            target = folder / f"{source.stem}-{arch}"
            guest_programs.compile_program(source, arch, target)
            yield target
    ebpf = ROOT / "ebpf"
    incremental.run(["make", "--no-print-directory", "-C", str(ebpf), TRACER_OBJECT], ebpf)
    yield ebpf / TRACER_OBJECT
    yield ROOT / "support/host_python.py"
    yield ROOT / "support/host_script.py"
    target = folder / notices.NAME
    found = notices.of_programs(choice.loaders, DEFAULT.name, cache, say)
    target.write_text(notices.to_text(found), encoding="utf-8")
    yield target
    if said := choice.left_out():
        record = folder / shipped.LEFT_OUT
        record.write_text(f"{said}\n")
        yield record


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds `bpfmatrix/loader` to a wheel: the guest programs, and the files of the tracer."""

    _folder: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the programs, unless `version` is `editable`: a checkout builds its own."""
        if version == "editable":
            return
        self._folder = tempfile.mkdtemp()

        def say(text: str, fraction: float | None = None) -> None:
            self.app.display_info(text)

        try:
            for file in build(Choice.of(os.environ), Path(self._folder), say):
                build_data["force_include"][str(file)] = f"bpfmatrix/loader/{file.name}"
        except BpfmatrixError as error:
            shutil.rmtree(self._folder)
            self.app.abort(f"error: {error}")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the built programs, which are in the wheel now."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
