"""Runs make for one kernel: its tools and variables, its progress, and its first error.

Everything that make prints is in a log. make ends with bpfmatrix, however that ends. Run again, it
continues where it was, as the folder that it works in stays.
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

from bpfmatrix.errors import BpfmatrixError, KernelBuildError, ToolMissingError
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
# Headers that the source tree's own host programs need: objtool libelf, extract-cert OpenSSL.
_HEADERS = (
    ("stdlib.h", "libc6-dev"),
    ("libelf.h", "libelf-dev"),
    ("openssl/opensslv.h", "libssl-dev"),
)
# `  CC      kernel/bpf/verifier.o`, `  CC [M]  lib/test_bpf.o`: one step each.
_STEP = re.compile(r"  ([A-Z][A-Z0-9_]+)(?: \[M\])?\s+(\S+)")
# The phases behind the compilation, by the first step of each. Each of them takes a while.
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
    """Raise a ToolMissingError that names all tools and headers of a build that this host lacks."""
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
            f"a kernel's build needs {', '.join(missing)}, which this host does not have",
            f"Run: sudo apt-get install {packages}",
        )


@dataclass(frozen=True)
class Make:
    """make for one kernel."""

    tree: Path
    version: str
    objects: Path
    """The folder that make works in."""
    arch: str

    @property
    def log(self) -> Path:
        """The output of the last run of make."""
        return self.objects / "make.log"

    @property
    def image(self) -> Path:
        """The image that is booted, once it is built."""
        return self.objects / ARCHITECTURES[self.arch].kernel_image

    @property
    def has_ccache(self) -> bool:
        """Whether the compiler is run by ccache."""
        return tools.find("ccache") is not None

    @property
    def cross(self) -> str:
        """The prefix of a cross compiler and its tools; empty for the host's own architecture."""
        return _prefix(self.arch)

    def configure(self, requested: str) -> None:
        """Make a `.config` of the requested options; all other options are off."""
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
        """Run make; return the number of its steps. BpfmatrixError with the first error in its log.

        The progress is the fraction of `expected` steps, of which `done` were done before.
        """
        phase, steps = "compiling", 0
        command = ["make", "--no-print-directory", "-C", str(self.tree), f"-j{processors()}"]
        command += [*self._variables(), *extra]
        log = self.log.open("w", encoding="utf-8", buffering=1)  # line by line, for `tail -f`
        with log, _started([*command, *targets]) as process:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                steps += bool(_STEP.match(line))
                phase = next((name for pattern, name in _PHASES if pattern.match(line)), phase)
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

        Stable releases of 5.15 and 5.10 have a script that tells it; 5.4 has not.
        """
        major = int(self.version.split(".")[0])
        script = self.tree / "scripts/pahole-flags.sh"
        return major < 6 and not (script.exists() and "enum64" in script.read_text())

    def _pahole_without_enum64(self) -> Path:
        wrapper = self.objects / "pahole-without-enum64"
        # The source tree also runs it with --version. An older pahole fails for an unknown flag.
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
        # A full disk is not the sources' fault.
        kind = BpfmatrixError if "No space left on device" in what else KernelBuildError
        return kind(
            f"make {' '.join(targets)} failed:{what}",
            f"All of its output is in {self.log}. Run again, it goes on where it was.",
        )


def first_error(lines: Sequence[str]) -> list[str]:
    """Return the first line with an error in a log of make, and the four lines behind it."""
    for number, line in enumerate(lines):
        if _ERROR.search(line) and not _CONSEQUENCE.match(line):
            return list(lines[number : number + 5])
    return list(lines[-5:])


def _prefix(arch: str) -> str:
    return "" if os.uname().machine == arch else ARCHITECTURES[arch].compiler_prefix


def processors() -> int:
    """Return the number of processors that make may use."""
    return len(os.sched_getaffinity(0))


def _environment() -> dict[str, str]:
    # Variables of a make, or of a shell, that runs bpfmatrix are not meant for the kernel's build.
    foreign = ("MAKE", "MFLAGS", "KCONFIG_", "KBUILD_", "ARCH", "CROSS_COMPILE", "LOCALVERSION")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # These are in the kernel's banner. Fixed, they let the same sources give the same bytes.
    fixed = {
        "KBUILD_BUILD_USER": "bpfmatrix",
        "KBUILD_BUILD_HOST": "bpfmatrix",
        "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
        "KBUILD_BUILD_VERSION": "1",
        # ccache takes the dependencies of a file from the compiler, and does not run a preprocessor
        # first: a first build takes a quarter less time. The compiler's list has no system headers.
        # The kernel includes none; for the build's own tools, ccache does not notice their changes.
        "CCACHE_DEPEND": "1",
    }
    return {**kept, **fixed, "LC_ALL": "C"}


@contextlib.contextmanager
def _started(command: Sequence[str]) -> "Iterator[subprocess.Popen[str]]":
    """Run a program in a process group of its own, and end the group if this block raises."""
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
            # At SIGTERM, make removes the file that it was writing.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
