"""gdb as a program: which one debugs an architecture, and the files that it is started with."""

import json
import platform
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from bpfmatrix.errors import UsageError
from bpfmatrix.host import tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.symbols import Symbols, elf

__all__ = ["Gdb", "nearest"]

DEFAULT_BREAKPOINTS = ("do_check", "do_check_common", "bpf_check")
"""The verifier's entry: the first of these that a kernel has. gcc puts `do_check`, a static
function with one caller, into `do_check_common`; without DWARF its name is then gone."""

# What a library loads to find out what the kernel can do has no name.
_NAMED = "env->prog->aux->name[0] != 0"
_STOPPED = "stopped"
_MARK = "bpfmatrix:"


@dataclass(frozen=True)
class Gdb:
    """A gdb for one kernel, and the folder in which its files are written."""

    program: Path
    symbols: Symbols
    cache: Cache
    folder: Path

    @classmethod
    def find(cls, arch: str, symbols: Symbols, cache: Cache, folder: Path) -> "Gdb":
        """Return one that knows the architecture; ToolMissingError where there is none."""
        if platform.machine() == arch:
            program = tools.find("gdb") or tools.require("gdb-multiarch", "gdb")
        else:
            program = tools.require("gdb-multiarch", "gdb-multiarch")
        return cls(program, symbols, cache, folder)

    def resolve(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Return where to set the breakpoints, or the default one if none is wanted.

        UsageError for one that this kernel does not have, with the names nearest to it.
        """
        candidates = list(dict.fromkeys([*wanted, *DEFAULT_BREAKPOINTS]))
        done = self._ask(f"bpfmatrix_resolve({json.dumps(candidates)})")
        answers: dict[str, dict[str, str]] = {}
        for line in done.stdout.splitlines():
            if line.startswith(_MARK):
                answers = json.loads(line.removeprefix(_MARK))
        if not answers:
            said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
            raise UsageError(f"gdb can't read {self.symbols.vmlinux}: {said[-1]}")
        if not wanted:
            there = [answers[n]["location"] for n in candidates if "location" in answers[n]]
            if not there:
                raise UsageError(
                    f"{self.symbols.vmlinux} has none of {', '.join(DEFAULT_BREAKPOINTS)}",
                    "Name a breakpoint with --break.",
                )
            return (f"{there[0]} if {_NAMED}",) if self.symbols.has_types else (there[0],)
        for name in wanted:
            if wrong := answers[name].get("error"):
                known = [n for n in DEFAULT_BREAKPOINTS if "location" in answers[n]]
                raise UsageError(f"--break {name}: {wrong.rstrip('.')}", self._advice(name, known))
        return tuple(answers[name]["location"] for name in wanted)

    def _advice(self, name: str, there: Sequence[str]) -> str:
        if ":" in name:
            return "Files are named as in the source tree: --break kernel/bpf/verifier.c:12345."
        # Of those that are no function of their own, as do_check, the symbols do not tell.
        names = {symbol.name for symbol in elf.symbols(self.symbols.vmlinux)} | {*there}
        near = nearest(name, names)
        return f"This kernel has {', '.join(near)}." if near else ""

    def _ask(self, python: str) -> "subprocess.CompletedProcess[str]":
        lines = [*self._reading(), f"python {python}"]
        words = [word for line in lines for word in ("-ex", line)]
        return subprocess.run(
            [self.program, "-nx", "-nh", "-batch", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    def write(self, port: int, breakpoints: Sequence[str], paged: bool) -> Path:
        """Write the file of commands that connects and runs to the first breakpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _STOPPED).unlink(missing_ok=True)
        lines = [
            f"set pagination {'on' if paged else 'off'}",
            *self._reading(),
            *(f"break {name}" for name in breakpoints),
            f"python bpfmatrix_begin({json.dumps(str(self.folder / _STOPPED))})",
            # The code can't be read from the guest before its kernel mapped it, and gdb looks at
            # it when it connects.
            "set trust-readonly-sections on",
            f"python bpfmatrix_connect({port})",
            "continue",
            "set trust-readonly-sections off",
        ]
        if self.symbols.has_types:
            lines.append("list")
        path = self.folder / "gdb.commands"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def setup_commands(self) -> list[str]:
        """Return what an editor's gdb is to do before it connects."""
        return [*self._reading(), "set trust-readonly-sections on"]

    @property
    def stopped(self) -> bool:
        """Whether the guest was seen at a breakpoint."""
        return (self.folder / _STOPPED).exists()

    def command(
        self, commands: Path, more: Sequence[str], batch: Sequence[str] | None
    ) -> list[str]:
        """Return the command line; with `batch`, gdb does these commands and ends."""
        words = [str(self.program), "-q"]
        if batch is not None:
            words += ["-nx", "-nh", "-batch"]
        words += [*more, "-x", str(commands)]
        for line in batch or ():
            words += ["-ex", line]
        return words

    def shown(self, commands: Path) -> str:
        """Return what one types in another terminal."""
        return shlex.join([str(self.program), "-q", "-x", str(commands)])

    def _reading(self) -> list[str]:
        """Return the commands that make gdb know the kernel."""
        index = self.cache.root / "symbols/index"
        index.mkdir(parents=True, exist_ok=True)
        symbols, helper = self.symbols, resources.files("bpfmatrix") / "debug/in_gdb.py"
        lines = [
            "set confirm off",
            "set debuginfod enabled off",
            "set breakpoint pending off",
            "set print thread-events off",
            # The kernel's scripts, which lie beside a vmlinux that was built, are loaded below; by
            # itself gdb takes them from folders only that its user named.
            "set auto-load python-scripts off",
            # Read without it, a kernel's symbols take gdb some seconds, each time.
            f"set index-cache directory {index}",
            "set index-cache enabled on",
            f"file {_quoted(symbols.vmlinux)}",
        ]
        if symbols.source:
            if symbols.moved_from:
                places = _quoted(Path(symbols.moved_from)), _quoted(symbols.source)
                lines.append(f"set substitute-path {' '.join(places)}")
            lines.append(f"directory {_quoted(symbols.source)}")
        if symbols.scripts:
            lines.append(f"source {symbols.scripts}")
        return [*lines, f"source {helper}"]


def _quoted(path: Path) -> str:
    # gdb splits the words of these commands as a shell does, and takes that of the others as it is.
    return shlex.quote(str(path))


def nearest(name: str, names: set[str], count: int = 5) -> list[str]:
    """Return the functions that somebody may have meant."""
    import difflib  # noqa: PLC0415 - off the start-up path

    # What the compiler made of a function is called like do_check.constprop.0.
    plain = {each.partition(".")[0] for each in names} - {""}
    similar = difflib.get_close_matches(name, sorted(plain), n=count, cutoff=0.7)
    longer = [each for each in plain if name in each or each.startswith(tuple(similar))]
    longer.sort(key=lambda each: (len(each), each))
    return list(dict.fromkeys([*similar, *longer]))[:count]
