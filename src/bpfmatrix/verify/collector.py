"""What the loader in the guest prints, turned into results: a `Collector` for each kernel.

It is fed bytes as they come, and knows beforehand which programs there are: each has exactly one
result at the end, whatever became of the loader, of its machine, or of a line on its way.
"""

import base64
import binascii
import contextlib
import dataclasses
import gzip
import io
import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.results import files
from bpfmatrix.results.expectations import Expectations
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, MapResult, ProgramResult, Statistics
from bpfmatrix.verify import source
from bpfmatrix.verify.verifierlog import Line

__all__ = ["Collector", "Judge", "LoadedObject"]

# The lines of a log that explain a rejection are its last ones.
_EXPLAINED_BYTES = 2 << 20
_UNSAFE = re.compile(r"[/\0]|^\.+$")
_KEPT_WORDS = 4 << 10
# A line is one event, and may hold a verifier's log of tens of megabytes.
_LINE_BYTES = 512 << 20


@dataclass(frozen=True)
class LoadedObject:
    """An object as the loader is given it: what is called so in its events."""

    name: str
    """As results call it."""
    programs: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    """Where the sources of its BTF may be found; the first one is the project's."""


@dataclass(frozen=True)
class Judge:
    """What turns a load that worked into a failure, and a failure into an expected one."""

    max_insns: str = "100%"
    expected: Expectations = field(default_factory=Expectations)

    def judge(self, result: ProgramResult) -> ProgramResult:
        """Return the result as it counts."""
        count, limit = result.statistics.instructions_processed, self._limit(result.statistics)
        if result.outcome is Outcome.PASSED and count is not None and limit and count > limit:
            whole = result.statistics.instructions_limit
            share = f" of {whole:,} ({count / whole:.0%})" if whole else ""
            result = dataclasses.replace(
                result,
                outcome=Outcome.FAILED,
                code=Code.TOO_CLOSE,
                reason=f"{count:,}{share} instructions processed, more than {self.max_insns}",
            )
        reason = self.expected.of_program(result.object, result.program, result.outcome)
        return dataclasses.replace(result, expected=reason)

    def _limit(self, statistics: Statistics) -> float | None:
        if not self.max_insns.endswith("%"):
            return int(self.max_insns)
        whole = statistics.instructions_limit
        return whole * int(self.max_insns[:-1]) / 100 if whole else None


class Collector:
    """Takes what the loader prints on one kernel; reports each program's result as it comes."""

    def __init__(
        self,
        objects: Mapping[str, LoadedObject],
        logs: Path,
        relative: Callable[[Path], str],
        judge: Judge,
        report: Callable[[ProgramResult], None],
    ) -> None:
        self._objects = objects
        self._logs = logs
        self._relative = relative
        self._judge = judge
        self._report = report
        self._buffer = bytearray()
        self._skipping = False
        self._said = Excerpt(_KEPT_WORDS)
        self._started: dict[tuple[str, str], None] = {}
        self._results: dict[tuple[str, str], ProgramResult] = {}
        self.maps: list[MapResult] = []
        self.lines: dict[tuple[str, str], list[Line]] = {}
        """The lines of the source, of the programs for which they came."""
        self.left_out: dict[tuple[str, str], str] = {}
        """Why there is no log, of the programs that should have one."""
        self.ended = 0
        """How many loaders said that they are done."""

    @property
    def said(self) -> str:
        """What was printed beside events: a loader's complaint, or how it crashed."""
        return str(self._said).strip()

    @property
    def programs(self) -> tuple[ProgramResult, ...]:
        """The results, in the order in which the programs stand in the objects."""
        order = {key: number for number, key in enumerate(self._known())}
        last = len(order)
        return tuple(sorted(self._results.values(), key=lambda r: order.get(_key(r), last)))

    def _known(self) -> Iterable[tuple[str, str]]:
        for object in self._objects.values():
            for program in object.programs:
                yield object.name, program

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *lines, rest = data.split(b"\n")
        for part in lines:
            self._buffer += part
            if not self._skipping:
                self._take(bytes(self._buffer))
            self._buffer.clear()
            self._skipping = False
        self._buffer += rest
        if len(self._buffer) > _LINE_BYTES:
            self._buffer.clear()
            self._skipping = True

    def close(self) -> None:
        """Take the end of the output, which may be in the middle of a line."""
        if self._buffer and not self._skipping:
            self._take(bytes(self._buffer))
        self._buffer.clear()

    def _take(self, line: bytes) -> None:
        event: Any = None
        if line.startswith(b"{"):
            with contextlib.suppress(ValueError):
                event = json.loads(line)
        known = isinstance(event, dict) and self._take_event(event)
        if not known and line.strip():
            self._said.append(line[:_KEPT_WORDS].decode(errors="replace") + "\n")

    def _take_event(self, event: dict[str, Any]) -> bool:
        """Take one event; tell whether it was one."""
        object = self._objects.get(str(event.pop("object", "")))
        kind = event.pop("event", None)
        try:
            match kind:
                case "start" if object:
                    self._started[object.name, str(event.get("program", ""))] = None
                case "program" if object:
                    self._take_program(object, event)
                case "object" if object:
                    self._take_object(object, Code(event["code"]), str(event["reason"]))
                case "map" if object:
                    self.maps.append(MapResult(object=object.name, **event))
                case "end":
                    self.ended += 1
                case "kernel":
                    pass
                case _:
                    return False
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
        return True

    def _take_program(self, object: LoadedObject, event: dict[str, Any]) -> None:
        log, lines = event.pop("log", ""), event.pop("line_info", None) or []
        left_out = str(event.pop("log_left_out", ""))
        result = files.parse_program({**event, "object": object.name})
        key = _key(result)
        found = [
            Line(int(one["insn"]), str(one["file"]), int(one["line"]), str(one.get("text", "")))
            for one in lines
        ]
        if found:
            self.lines[key] = found
        if left_out:
            self.left_out[key] = left_out
        path, text = self._write_log(result, log) if log else (None, "")
        if path is not None:
            result = dataclasses.replace(result, log=self._relative(path))
        if result.outcome is Outcome.FAILED and text:
            explained = source.explain(text, found, object.folders)
            result = dataclasses.replace(
                result,
                verifier_tail=explained.text or result.verifier_tail,
                source=explained.source or result.source,
            )
        reason = result.reason.replace("\n", " ")
        if left_out and path is None and result.outcome is not Outcome.PASSED:
            reason = f"{reason} (no verifier log: {left_out})"
        self._add(dataclasses.replace(result, reason=reason))

    def _take_object(self, object: LoadedObject, code: Code, reason: str) -> None:
        for program in object.programs:
            self._add(ProgramResult(object.name, program, Outcome.FAILED, code=code, reason=reason))

    def _write_log(self, result: ProgramResult, packed: str) -> tuple[Path | None, str]:
        """Write a log to its file; give that, and the log's last part."""
        names = [part for part in Path(result.object).parts if part not in ("/", "..")]
        folder = self._logs.joinpath(*names)
        path = folder / f"{_UNSAFE.sub('_', result.program)[:200]}.log"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with gzip.open(io.BytesIO(base64.b64decode(packed))) as log, path.open("wb") as file:
                shutil.copyfileobj(log, file, 1 << 20)
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _EXPLAINED_BYTES))
                return path, file.read().decode(errors="replace")
        except (binascii.Error, OSError, EOFError, zlib.error):
            path.unlink(missing_ok=True)
            return None, ""

    def _add(self, result: ProgramResult) -> None:
        if _key(result) in self._results:
            return
        result = self._judge.judge(result)
        self._results[_key(result)] = result
        self._report(result)

    def skip(self, object: LoadedObject, reason: str) -> None:
        """All programs of an object are not even tried, as was declared."""
        for program in object.programs:
            self._add(
                ProgramResult(
                    object.name, program, Outcome.SKIPPED, code=Code.DECLARED, reason=reason
                )
            )

    def oops(self) -> None:
        """The kernel had an oops: that is what the loader's processes crashed of."""
        for key, result in self._results.items():
            if result.code is Code.LOADER_CRASHED:
                reason = f"the kernel had an oops while it loaded this; {result.reason}"
                self._results[key] = dataclasses.replace(
                    result, code=Code.KERNEL_DIED, reason=reason, expected=""
                )

    def abandon(
        self,
        outcome: Outcome,
        code: Code,
        reason: str,
        objects: Sequence[LoadedObject] | None = None,
    ) -> None:
        """The loader is no more. What it was about has this outcome, the rest was not run."""
        for object in objects if objects is not None else self._objects.values():
            opening = (object.name, "") in self._started
            begun = any((object.name, program) in self._started for program in object.programs)
            for program in object.programs:
                if (object.name, program) in self._started or (opening and not begun):
                    result = ProgramResult(object.name, program, outcome, code=code, reason=reason)
                else:
                    said = f"not run: {reason}"
                    result = ProgramResult(
                        object.name, program, Outcome.ERROR, code=Code.NOT_RUN, reason=said
                    )
                self._add(result)


def _key(result: ProgramResult) -> tuple[str, str]:
    return result.object, result.program
