"""One kernel's make: its programs and variables, how far it is, and what it stumbled over.

Everything that make prints is kept in a log. It is ended with bpfmatrix, however that ends, and
goes on where it was when it is run again: it works in a folder of its own that stays.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError, ToolMissingError
from bpfmatrix.host import tools
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.process import tied
from bpfmatrix.host.progress import Progress, silent

__all__ = ["Make", "first_error", "processors", "require_tools"]

# (program, Debian's package)
_PROGRAMS = (
    ("make", "make"),
    ("ld", "binutils"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("perl", "perl"),
    ("pahole", "dwarves"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
)
# What the tree's own host programs include: objtool libelf, extract-cert OpenSSL.
_HEADERS = (
    ("stdlib.h", "libc6-dev"),
    ("libelf.h", "libelf-dev"),
    ("openssl/opensslv.h", "libssl-dev"),
)
# `  CC      kernel/bpf/verifier.o`, `  CC [M]  lib/test_bpf.o`: one step each.
_STEP = re.compile(r"  ([A-Z][A-Z0-9_]+)(?: \[M\])?\s+(\S+)")
# What is done, by the first step that belongs to it; linking, BTF and packing take a while each.
_PHASES = (
    (re.compile(r"  (LD|AR|KSYMS?|NM)\s+(vmlinux|\.tmp_vmlinux|\S*vmlinux\.o)"), "linking"),
    (re.compile(r"  BTF(IDS)?\s"), "making BTF"),
    (re.compile(r"  OBJCOPY\s+arch/\w+/boot/"), "packing"),
)
_ERROR = re.compile(
    r"(:\d+: (fatal )?error: |\berror: |undefined reference| \*\*\* |^FAILED|: not found$"
    r"|No space left on device|internal compiler error|Segmentation fault|\bKilled\b)"
)
_CONSEQUENCE = re.compile(r"make(\[\d+\])?: \*\*\* .*(Error \d+|Waiting for unfinished jobs|SIG)")


def require_tools(arch: str) -> None:
    """ToolMissingError names all that a build needs and this host does not have, at once."""
    compiler = f"{_prefix(arch)}gcc"
    wanted = [*_PROGRAMS, (compiler, "gcc" if not _prefix(arch) else f"gcc-{_prefix(arch)[:-1]}")]
    missing = {name: package for name, package in wanted if not tools.find(name)}
    if not missing.keys() & {"gcc"} and (host := shutil.which("gcc")):
        for header, package in _HEADERS:
            probe = subprocess.run(
                [host, "-E", "-x", "c", "-", "-o", os.devnull],
                input=f"#include <{header}>\n",
                capture_output=True,
                text=True,
                check=False,
            )
            if probe.returncode:
                missing[header] = package
    elif "gcc" not in missing:
        missing["gcc"] = "gcc"
    if missing:
        packages = " ".join(dict.fromkeys(missing.values()))
        raise ToolMissingError(
            f"a kernel's build needs {', '.join(missing)}, not to be found here",
            f"Run: sudo apt-get install {packages}",
        )


@dataclass(frozen=True)
class Make:
    """How one kernel is made."""

    tree: Path
    version: str
    objects: Path
    """The folder that make works in."""
    arch: str

    @property
    def log(self) -> Path:
        """What make printed last."""
        return self.objects / "make.log"

    @property
    def image(self) -> Path:
        """What is booted, once it is made."""
        return self.objects / ARCHITECTURES[self.arch].kernel_image

    @property
    def has_ccache(self) -> bool:
        """Whether compilers are called through ccache."""
        return tools.find("ccache") is not None

    @property
    def cross(self) -> str:
        """What stands in front of the names of compiler and linker; nothing for the host's own."""
        return _prefix(self.arch)

    def configure(self, requested: str) -> None:
        """Make `.config` out of options; all that is not among them is off."""
        fragment = self.objects / "requested.config"
        fragment.write_text(requested)
        self.run(["allnoconfig"], extra=[f"KCONFIG_ALLCONFIG={fragment}"])

    def run(
        self,
        targets: Sequence[str],
        progress: Progress = silent,
        done: int = 0,
        expected: int = 0,
        extra: Iterable[str] = (),
    ) -> int:
        """Run make; returns how many steps it took. BpfmatrixError with the first error.

        The fraction of the progress is that of `expected` steps, of which `done` lie behind.
        """
        phase, steps = "compiling", 0
        command = ["make", "--no-print-directory", "-C", str(self.tree), f"-j{processors()}"]
        command += [*self._variables(), *extra]
        log = self.log.open("w", encoding="utf-8", buffering=1)  # by line, for who looks on
        with log, _started([*command, *targets]) as process:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                steps += bool(_STEP.match(line))
                phase = next((name for form, name in _PHASES if form.match(line)), phase)
                progress(phase, min((done + steps) / expected, 0.99) if expected else None)
        if process.returncode:
            raise self._failure(targets)
        return steps

    def _variables(self) -> list[str]:
        wrapped = "ccache " if self.has_ccache else ""
        cross = self.cross
        found = [
            f"O={self.objects}",
            f"ARCH={ARCHITECTURES[self.arch].kernel}",
            f"CC={wrapped}{cross}gcc",
            "HOSTCC=gcc",
            *([f"CROSS_COMPILE={cross}"] if cross else []),
        ]
        if self._needs_old_btf():
            found.append(f"PAHOLE={self._pahole_without_enum64()}")
        return found

    def _needs_old_btf(self) -> bool:
        """Whether pahole must be told not to write ENUM64, which kernels before 6.0 can't read.

        Stable releases of 5.15 and 5.10 got a script that does so, 5.4 did not.
        """
        major = int(self.version.split(".")[0])
        script = self.tree / "scripts/pahole-flags.sh"
        return major < 6 and not (script.exists() and "enum64" in script.read_text())

    def _pahole_without_enum64(self) -> Path:
        wrapper = self.objects / "pahole-without-enum64"
        # Trees ask it for its version; with a flag it does not know, an older pahole would fail.
        wrapper.write_text(
            "#!/bin/sh\n"
            'case "$*" in *--version*) exec pahole "$@" ;; esac\n'
            "pahole --help 2>&1 | grep -q skip_encoding_btf_enum64 &&\n"
            '\tset -- --skip_encoding_btf_enum64 "$@"\n'
            'exec pahole "$@"\n'
        )
        wrapper.chmod(0o755)
        return wrapper

    def _failure(self, targets: Sequence[str]) -> BpfmatrixError:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        what = "\n".join(["", *first_error(lines)])
        return BpfmatrixError(
            f"make {' '.join(targets)} failed:{what}",
            f"All that it said: {self.log}. Run again, it goes on where it was.",
        )


def first_error(lines: Sequence[str]) -> list[str]:
    """Return the line of a make's log that says what went wrong first, and a few behind it."""
    for number, line in enumerate(lines):
        if _ERROR.search(line) and not _CONSEQUENCE.match(line):
            return list(lines[number : number + 5])
    return list(lines[-5:])


def _prefix(arch: str) -> str:
    return "" if os.uname().machine == arch else ARCHITECTURES[arch].compiler_prefix


def processors() -> int:
    """Return how many processors make may use."""
    return len(os.sched_getaffinity(0))


def _environment() -> dict[str, str]:
    # What a make or a shell around this one has set is not meant for the kernel's.
    foreign = ("MAKE", "MFLAGS", "KCONFIG_", "KBUILD_", "ARCH", "CROSS_COMPILE", "LOCALVERSION")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # The banner is part of the kernel: with these, the same sources give the same bytes.
    fixed = {
        "KBUILD_BUILD_USER": "bpfmatrix",
        "KBUILD_BUILD_HOST": "bpfmatrix",
        "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
        "KBUILD_BUILD_VERSION": "1",
        # ccache takes what a file depends on from the compiler instead of running a preprocessor
        # before it, which makes a first build a quarter cheaper. The compiler's list has no headers
        # of the system, of which a kernel uses none; the tools for the build do, and go without.
        "CCACHE_DEPEND": "1",
    }
    return {**kept, **fixed, "LC_ALL": "C"}


@contextlib.contextmanager
def _started(command: Sequence[str]) -> "Iterator[subprocess.Popen[str]]":
    """Run a program in a process group of its own, which ends with this block."""
    # A make that outlived a killed bpfmatrix would go on compiling.
    with subprocess.Popen(
        tied(command, by="TERM"),
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            yield process
        except BaseException:
            # make removes what it was just writing when it is told to end.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
