"""gdb as a program: which one debugs an architecture, its breakpoints, its files, its process."""

import asyncio
import contextlib
import json
import os
import platform
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from bpfmatrix.debug import places
from bpfmatrix.debug.ending import NOT_BEGUN, BatchReport
from bpfmatrix.debug.places import REJECTION, ProgramPlace
from bpfmatrix.errors import UsageError
from bpfmatrix.host import records, tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.process import tied
from bpfmatrix.kernels.symbols import Symbols, elf

__all__ = ["ENTRY", "REJECTION", "Gdb", "nearest"]

# The function of kernel/bpf/verifier.c that writes each message of the verifier, from 5.4 on.
_MESSAGES = "verbose"

ENTRY = "the verifier's entry"
"""The default breakpoint: where the verifier begins to check a program that was asked for."""
# The functions of which the first one that a kernel has is its entry: in_gdb/entry.py.
_ENTRIES = ("do_check", "do_check_common", "bpf_check")

_STOPPED = "stopped"
_REPORT = "batch.json"
# The beginning of the line in which `locations.resolve` prints its answer.
_MARK = "bpfmatrix:"


@dataclass(frozen=True)
class Gdb:
    """A gdb for one kernel, and the folder that its files are written to."""

    program: Path
    symbols: Symbols
    cache: Cache
    folder: Path
    programs: tuple[str, ...] = ()
    """The names of the eBPF programs at which it stops in the verifier; none means all."""

    @classmethod
    def find(
        cls,
        arch: str,
        symbols: Symbols,
        cache: Cache,
        folder: Path,
        programs: tuple[str, ...] = (),
    ) -> "Gdb":
        """Return a gdb that knows the architecture; ToolMissingError if there is none."""
        if platform.machine() == arch:
            program = tools.find("gdb") or tools.require("gdb-multiarch", "gdb")
        else:
            program = tools.require("gdb-multiarch", "gdb-multiarch")
        return cls(program, symbols, cache, folder, programs)

    def resolve(
        self, names: Sequence[str], is_source: Callable[[str], bool] = lambda file: False
    ) -> tuple[str, ...]:
        """Return these breakpoints, or the default one if `names` is empty.

        `is_source` says whether a file is one that eBPF programs may have been compiled from. The
        kernel's own files come first. UsageError if the kernel has no such function or line, with
        the names most similar to it.
        """
        functions, candidates = _candidates(names)
        answers = self._answers(f"locations.resolve({json.dumps(candidates)})")
        known = [name for name in _ENTRIES if "error" not in answers[name]]
        if not names:
            if not known:
                raise UsageError(
                    f"{self.symbols.vmlinux} has none of {', '.join(_ENTRIES)}",
                    "Name a breakpoint with --break.",
                )
            return (ENTRY,)
        found = []
        for name, function in zip(names, functions, strict=True):
            wrong = answers[function].get("error", "")
            line = places.line_of_program(name)
            if wrong.startswith("No source file") and line and is_source(line.file):
                found.append(self._of_program(name, line))
            elif wrong:
                raise UsageError(f"--break {name}: {wrong.rstrip('.')}", self._advice(name, known))
            elif place := places.in_program(name):
                found.append(self._of_program(name, place))
            else:
                found.append(name)
        return tuple(found)

    def _of_program(self, name: str, place: ProgramPlace) -> str:
        if self.symbols.has_types:
            return str(place)
        raise UsageError(
            f"--break {name}: gdb has only the names of this kernel's functions",
            "A place in a program needs the kernel's DWARF: leave --names out, or add --vmlinux.",
        )

    def initial(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of the breakpoints that are only reached while the kernel boots."""
        functions, candidates = _candidates(names)
        answers = self._answers(f"locations.resolve({json.dumps(candidates)})")
        pairs = zip(names, functions, strict=True)
        return tuple(name for name, function in pairs if answers[function].get("initial"))

    def _answers(self, python: str) -> dict[str, dict[str, Any]]:
        """Return what `python` prints in a gdb that has read the symbols, as JSON.

        It is kept in the cache: to read a kernel's symbols takes a second.
        """
        record = self._index / f"{self._key(python)}.json"
        if known := records.read(record):
            return known
        done = self._ask(python)
        answers: dict[str, dict[str, Any]] = {}
        for line in done.stdout.splitlines():
            if line.startswith(_MARK):
                answers = json.loads(line.removeprefix(_MARK))
        if not answers:
            said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
            raise UsageError(f"gdb can't read {self.symbols.vmlinux}: {said[-1]}")
        with contextlib.suppress(OSError):  # such as a full disk; gdb is asked again next time
            records.write(record, answers)
        return answers

    def _key(self, python: str) -> str:
        """Return a checksum of all that an answer depends on."""
        ours = Path(str(resources.files("bpfmatrix") / "debug/in_gdb"))
        read = [self.program, self.symbols.vmlinux, *ours.glob("*.py")]
        read += [self.symbols.scripts] if self.symbols.scripts else []
        files = [(str(path), path.stat()) for path in sorted(read)]
        changed = [(path, status.st_size, status.st_mtime_ns) for path, status in files]
        return key_of([python, changed])[:24]

    @property
    def _index(self) -> Path:
        """The folder of what is known of symbols."""
        folder = self.cache.root / "symbols/index"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _advice(self, name: str, known: Sequence[str]) -> str:
        if ":" in name:
            return (
                "A file of the kernel is named as in its source tree: kernel/bpf/verifier.c:12345. "
                "That of an eBPF program must be in this project, or in the BTF of an --object."
            )
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

    def write(
        self,
        target: str,
        breakpoints: Sequence[str],
        batch: Sequence[str] | None = None,
        hardware: bool = False,
    ) -> Path:
        """Write the file of gdb commands that connects, and runs to the first breakpoint.

        `target` is the argument of `target remote`: the path of a Unix socket, or HOST:PORT. With
        `batch`, gdb runs these commands there, and ends. Otherwise it has a prompt there, and stops
        after each screenful of output. With `hardware`, each breakpoint takes a debug register of
        the processor. x86 has four: panics take one, and the default stop takes three.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (_STOPPED, _REPORT):
            (self.folder / name).unlink(missing_ok=True)
        # A stop at a rejection, or in a program, shows by itself where that is.
        shown = ["list"] if self.symbols.has_types and not places.shown_alone(breakpoints) else []
        marker, report = str(self.folder / _STOPPED), str(self.folder / _REPORT)
        arguments = (target, marker, shown, None if batch is None else list(batch), report)
        lines = [
            f"set pagination {'off' if batch is not None else 'on'}",
            *self._reading(),
            # gdb sets hardware breakpoints by itself where memory can't be written.
            *(["mem 0x8000000000000000 0xffffffffffffffff ro"] if hardware else []),
            *self._breaking(breakpoints, is_quiet=batch is not None),
            f"python stops.begin({_python(marker)})",
            f"python session.run({', '.join(map(_python, arguments))})",
        ]
        path = self.folder / "gdb.commands"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def _breaking(self, breakpoints: Sequence[str], *, is_quiet: bool) -> list[str]:
        """Return gdb's commands for breakpoints that `resolve` returned.

        If `is_quiet`, gdb does not print where they are.
        """
        only = [f"python loads.only({_python(self.programs)})"] if self.programs else []
        commands = [self.break_command(breakpoint) for breakpoint in breakpoints]
        if is_quiet:
            commands = [f"python stops.quietly({_python(command)})" for command in commands]
        return [*only, *commands]

    def write_for_core(self, core: Path, offset: int, batch: Sequence[str] | None = None) -> Path:
        """Write the file of gdb commands that reads a core file of a guest's memory.

        `offset` is how far KASLR has moved its kernel. For `batch`, see `write`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _REPORT).unlink(missing_ok=True)
        arguments = (str(core), None if batch is None else list(batch))
        report = str(self.folder / _REPORT)
        moved = f"symbol-file -o {offset:#x} {_quoted(self.symbols.vmlinux)}"
        lines = [
            f"set pagination {'off' if batch is not None else 'on'}",
            *self._reading(),
            *([moved] if offset else []),
            f"python core_file.run({', '.join(map(_python, (*arguments, report)))})",
        ]
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
        if place := places.in_program(breakpoint):
            where = (place.instruction, place.program, place.file, place.line)
            return f"python program_stop.break_at({', '.join(map(_python, where))})"
        return f"python entry.break_at({json.dumps(breakpoint)})"

    def setup_commands(self) -> list[str]:
        """Return the commands for an editor's gdb before it connects."""
        only = [f"python loads.only({_python(self.programs)})"] if self.programs else []
        return [*self._reading(), *only, "set trust-readonly-sections on"]

    @property
    def stopped(self) -> bool:
        """Whether a breakpoint was reached."""
        return (self.folder / _STOPPED).exists()

    @property
    def batch_report(self) -> BatchReport | None:
        """What became of the commands of a batch; None if gdb ended before it could say that."""
        try:
            found = json.loads((self.folder / _REPORT).read_text())
        except (OSError, ValueError):
            return None
        failed = tuple((command, error) for command, error in found["failed"])
        return BatchReport(failed, tuple(found["left"]))

    @contextlib.asynccontextmanager
    async def running(
        self, commands: Path, arguments: Sequence[str], *, batch: bool
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start gdb with a file of commands, and end it when the context is left.

        With `batch`, gdb ends by itself, and Ctrl-C is for this process alone. Otherwise gdb reads
        from the terminal, and Ctrl-C is for gdb, which then stops the guest. KeyboardInterrupt if
        Ctrl-C came before gdb connected to the guest.
        """
        interrupts: list[int] = []
        with contextlib.nullcontext() if batch else _noted(interrupts):
            process = await asyncio.create_subprocess_exec(
                # To read from the terminal, it has to stay in our process group.
                *tied(self._command(commands, arguments, batch=batch)),
                stdin=asyncio.subprocess.DEVNULL if batch else None,
                start_new_session=batch,
            )
            try:
                yield process
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)  # not Process.kill: Machine._kill
                await process.wait()
        if interrupts and process.returncode == NOT_BEGUN:
            raise KeyboardInterrupt

    def _command(self, commands: Path, arguments: Sequence[str], *, batch: bool) -> list[str]:
        options = ["-nx", "-nh", "-batch"] if batch else []
        # If the file of commands is not read to its end, gdb goes on with the next argument.
        begun = (
            f"python gdb.convenience_variable('bpfmatrix_began') or gdb.execute('quit {NOT_BEGUN}')"
        )
        return [str(self.program), "-q", *options, *arguments, "-x", str(commands), "-ex", begun]

    def shown(self, commands: Path) -> str:
        """Return the command to type in another terminal."""
        return shlex.join([str(self.program), "-q", "-x", str(commands)])

    def _reading(self) -> list[str]:
        """Return the commands that load the kernel's symbols, its scripts, and ours."""
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
            f"set index-cache directory {self._index}",
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


def _candidates(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the function or line of each breakpoint, and all that gdb is asked for."""
    functions = [_function(name) for name in names]
    return functions, list(dict.fromkeys([*functions, *_ENTRIES]))


def _function(name: str) -> str:
    """Return what the kernel must have for a breakpoint of this name."""
    if name == REJECTION:
        return _MESSAGES
    return "bpf_check" if places.in_program(name) else name


@contextlib.contextmanager
def _noted(interrupts: list[int]) -> Iterator[None]:
    """Meanwhile, Ctrl-C does nothing in this process, but is noted in a list."""
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _python(value: object) -> str:
    """Return data as gdb's Python reads it, on one line."""
    return repr(value)


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
