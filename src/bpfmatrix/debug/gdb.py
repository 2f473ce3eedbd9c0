"""gdb as a program: which one debugs an architecture, its breakpoints, its files, its process."""

import asyncio
import contextlib
import json
import os
import platform
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from bpfmatrix.errors import UsageError
from bpfmatrix.host import tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.process import tied
from bpfmatrix.kernels.symbols import Symbols, elf

__all__ = ["ENTRY", "REJECTION", "Gdb", "nearest"]

REJECTION = "rejection"
"""The breakpoint where the verifier says why it rejects a program."""
# The function of kernel/bpf/verifier.c that writes each message of the verifier, from 5.4 on.
_MESSAGES = "verbose"

ENTRY = "the verifier's entry"
"""The default breakpoint: where the verifier begins to check a program that has a name."""
_STOPPED = "stopped"
# The beginning of the line in which `locations.resolve` prints its answer.
_MARK = "bpfmatrix:"


@dataclass(frozen=True)
class Gdb:
    """A gdb for one kernel, and the folder that its files are written to."""

    program: Path
    symbols: Symbols
    cache: Cache
    folder: Path

    @classmethod
    def find(cls, arch: str, symbols: Symbols, cache: Cache, folder: Path) -> "Gdb":
        """Return a gdb that knows the architecture; ToolMissingError if there is none."""
        if platform.machine() == arch:
            program = tools.find("gdb") or tools.require("gdb-multiarch", "gdb")
        else:
            program = tools.require("gdb-multiarch", "gdb-multiarch")
        return cls(program, symbols, cache, folder)

    def resolve(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return these breakpoints, or the default one if `names` is empty.

        UsageError if the kernel has no such function or line, with the names most similar to it.
        """
        functions = [_MESSAGES if name == REJECTION else name for name in names]
        done = self._ask(f"locations.resolve({json.dumps(functions)})")
        answer: dict[str, Any] = {}
        for line in done.stdout.splitlines():
            if line.startswith(_MARK):
                answer = json.loads(line.removeprefix(_MARK))
        if not answer:
            said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
            raise UsageError(f"gdb can't read {self.symbols.vmlinux}: {said[-1]}")
        if not names and not answer["entry"]:
            raise UsageError(
                f"{self.symbols.vmlinux} has none of the verifier's functions",
                "Name a breakpoint with --break.",
            )
        for name, function in zip(names, functions, strict=True):
            if wrong := answer["errors"][function]:
                advice = self._advice(name, answer["entry"])
                raise UsageError(f"--break {name}: {wrong.rstrip('.')}", advice)
        return tuple(names) or (ENTRY,)

    def _advice(self, name: str, known: Sequence[str]) -> str:
        if ":" in name:
            return "Files are named as in the source tree: --break kernel/bpf/verifier.c:12345."
        # An inlined function, such as do_check, is not among the symbols.
        names = {symbol.name for symbol in elf.symbols(self.symbols.vmlinux)} | {*known}
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

    def write(self, target: str, breakpoints: Sequence[str], paged: bool) -> Path:
        """Write the file of gdb commands that connects, and runs to the first breakpoint.

        `target` is the argument of `target remote`: the path of a Unix socket, or HOST:PORT. With
        `paged`, gdb stops after each screenful of output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _STOPPED).unlink(missing_ok=True)
        lines = [
            f"set pagination {'on' if paged else 'off'}",
            *self._reading(),
            *map(self.break_command, breakpoints),
            f"python stops.begin({json.dumps(str(self.folder / _STOPPED))})",
            # gdb reads code when it connects. The guest has none before its kernel has mapped it,
            # so gdb is told to read it from the vmlinux.
            "set trust-readonly-sections on",
            f"python stops.connect({json.dumps(target)})",
            "continue",
            "set trust-readonly-sections off",
        ]
        # A stop at a rejection shows what it is about by itself.
        if REJECTION not in breakpoints and self.symbols.has_types:
            lines.append("list")
        path = self.folder / "gdb.commands"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    @staticmethod
    def break_command(breakpoint: str) -> str:
        """Return gdb's command for a breakpoint that `resolve` returned."""
        if breakpoint == REJECTION:
            return f"python rejection.break_at_rejection({json.dumps(_MESSAGES)})"
        if breakpoint == ENTRY:
            return "python entry.break_at_entry()"
        return f"python entry.break_at({json.dumps(breakpoint)})"

    def setup_commands(self) -> list[str]:
        """Return the commands for an editor's gdb before it connects."""
        return [*self._reading(), "set trust-readonly-sections on"]

    @property
    def stopped(self) -> bool:
        """Whether a breakpoint was reached."""
        return (self.folder / _STOPPED).exists()

    @contextlib.asynccontextmanager
    async def running(
        self, commands: Path, arguments: Sequence[str], batch: Sequence[str] | None
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start gdb with a file of commands, and end it when the context is left.

        With `batch`, gdb runs these commands and ends. Otherwise it reads from the terminal, and
        Ctrl-C is for gdb, which then stops the guest.
        """
        process = await asyncio.create_subprocess_exec(
            # It stays in our process group, so that it may read from the terminal.
            *tied(self._command(commands, arguments, batch)),
            stdin=asyncio.subprocess.DEVNULL if batch is not None else None,
        )
        loop = asyncio.get_running_loop()
        if batch is None:
            loop.add_signal_handler(signal.SIGINT, lambda: None)
        try:
            yield process
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)  # not Process.kill: see Machine._kill
            await process.wait()
            if batch is None:
                loop.remove_signal_handler(signal.SIGINT)

    def _command(
        self, commands: Path, arguments: Sequence[str], batch: Sequence[str] | None
    ) -> list[str]:
        words = [str(self.program), "-q"]
        if batch is not None:
            words += ["-nx", "-nh", "-batch"]
        words += [*arguments, "-x", str(commands)]
        for line in batch or ():
            words += ["-ex", line]
        return words

    def shown(self, commands: Path) -> str:
        """Return the command to type in another terminal."""
        return shlex.join([str(self.program), "-q", "-x", str(commands)])

    def _reading(self) -> list[str]:
        """Return the commands that load the kernel's symbols, its scripts, and ours."""
        index = self.cache.root / "symbols/index"
        index.mkdir(parents=True, exist_ok=True)
        symbols, helper = self.symbols, resources.files("bpfmatrix") / "debug/in_gdb/load.py"
        lines = [
            "set confirm off",
            "set debuginfod enabled off",
            "set breakpoint pending off",
            "set print thread-events off",
            # The kernel's scripts, which are beside a vmlinux that was built, are loaded below. By
            # itself, gdb only loads those in folders that its user has declared safe.
            "set auto-load python-scripts off",
            # Without the index, gdb takes some seconds to read a kernel's symbols, each time.
            f"set index-cache directory {index}",
            "set index-cache enabled on",
            f"file {_quoted(symbols.vmlinux)}",
        ]
        if symbols.source:
            if symbols.moved_from:
                places = _quoted(Path(symbols.moved_from)), _quoted(symbols.source)
                lines.append(f"set substitute-path {' '.join(places)}")
            lines.append(f"directory {_quoted(symbols.source)}")
        lines.append(f"source {helper}")
        if symbols.scripts:
            lines.append(f"python kernel_scripts.load({json.dumps(str(symbols.scripts))})")
        return lines


def _quoted(path: Path) -> str:
    # gdb splits the arguments of these commands into words as a shell does.
    return shlex.quote(str(path))


def nearest(name: str, names: set[str], count: int = 5) -> list[str]:
    """Return the functions that somebody may have meant by `name`, at most `count`."""
    import difflib  # noqa: PLC0415 - off the start-up path

    # A clone that the compiler made of a function is called, for example, do_check.constprop.0.
    plain = {each.partition(".")[0] for each in names} - {""}
    similar = difflib.get_close_matches(name, sorted(plain), n=count, cutoff=0.7)
    longer = [each for each in plain if name in each or each.startswith(tuple(similar))]
    longer.sort(key=lambda each: (len(each), each))
    return list(dict.fromkeys([*similar, *longer]))[:count]
