"""The events of the loader in the guest, turned into results: a `Collector` for each kernel.

It is fed bytes as they come. It knows beforehand which programs there are, so that each has exactly
one result at the end, whatever happened to the loader, to its machine, or to a line of its output.
The events are described in `bpfmatrix.results.verification`.
"""

import base64
import binascii
import contextlib
import dataclasses
import gzip
import io
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.results import files
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, MapResult, ProgramResult
from bpfmatrix.session.json_lines import JsonLines
from bpfmatrix.verify import source_lines
from bpfmatrix.verify.judge import Judge
from bpfmatrix.verify.objects import LoadedObject
from bpfmatrix.verify.verifierlog import LineInfo

__all__ = ["Collector"]

# A rejection is explained from the end of its log; at most this much of it is read.
_EXPLAINED_BYTES = 2 << 20
_UNSAFE = re.compile(r"[/\0]|^\.+$")
_MESSAGE_CHARACTERS = 4 << 10

ProgramKey = tuple[str, str]
"""The name of an object and the name of a program of it."""


class Collector:
    """Takes what the loader prints on one kernel, and reports each program's result as it comes."""

    def __init__(
        self,
        objects: Mapping[str, LoadedObject],
        logs: Path,
        relative: Callable[[Path], str],
        judge: Judge,
        report: Callable[[ProgramResult], None],
    ) -> None:
        """`objects` are by the names that the loader has for them. `logs` is the folder for the
        verifier's logs; results have the path that `relative` makes of a log's.
        """
        self._objects = objects
        self._logs = logs
        self._relative = relative
        self._judge = judge
        self._report = report
        # The log of a program is a part of its event, and may have tens of megabytes.
        self._output = JsonLines()
        self._messages = Excerpt(_MESSAGE_CHARACTERS)
        self._started: set[ProgramKey] = set()
        self._results: dict[ProgramKey, ProgramResult] = {}
        self.maps: list[MapResult] = []
        self.lines: dict[ProgramKey, list[LineInfo]] = {}
        """The source lines of the programs for which the loader printed them."""
        self.left_out: dict[ProgramKey, str] = {}
        """Why a program that should have a log has none."""
        self.ended = 0
        """How many calls of the loader said that they finished."""

    @property
    def messages(self) -> str:
        """What was printed besides events, such as a complaint of the loader, or its crash."""
        return str(self._messages).strip()

    @property
    def loading(self) -> str:
        """The programs that have begun to be loaded and have no result yet."""
        keys = sorted(self._started - self._results.keys())
        return ", ".join(f"{object}: {program}" for object, program in keys if program)

    @property
    def programs(self) -> tuple[ProgramResult, ...]:
        """The results, in the order of the objects and of the programs in them."""
        order = {key: number for number, key in enumerate(self._known())}
        last = len(order)
        return tuple(sorted(self._results.values(), key=lambda r: order.get(_key(r), last)))

    def _known(self) -> Iterable[ProgramKey]:
        for object in self._objects.values():
            for program in object.programs:
                yield object.name, program

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        for line, event in self._output.feed(data):
            self._take(line, event)

    def close(self) -> None:
        """Take the end of the output, which may be in the middle of a line."""
        for line, event in self._output.close():
            self._take(line, event)

    def _take(self, line: bytes, event: dict[str, Any] | None) -> None:
        if event is None or not self._take_event(event):
            self._messages.append(line[:_MESSAGE_CHARACTERS].decode(errors="replace") + "\n")

    def _take_event(self, event: dict[str, Any]) -> bool:
        """Take one event; return whether it is a valid one."""
        object = self._objects.get(str(event.pop("object", "")))
        kind = event.pop("event", None)
        if object and event.get("program") in object.left_out:
            return True
        try:
            match kind:
                case "start" if object:
                    self._started.add((object.name, str(event.get("program", ""))))
                case "program" if object:
                    self._take_program(object, event)
                case "object" if object:
                    code, reason = Code(event["code"]), str(event["reason"])
                    self._add_all(object, Outcome.FAILED, code, reason)
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
        infos = [
            LineInfo(int(one["insn"]), str(one["file"]), int(one["line"]), str(one.get("text", "")))
            for one in lines
        ]
        if infos:
            self.lines[key] = infos
        if left_out:
            self.left_out[key] = left_out
        path, text = self._write_log(result, log) if log else (None, "")
        if path is not None:
            result = dataclasses.replace(result, log=self._relative(path))
        if result.outcome is Outcome.FAILED and text:
            explained = source_lines.explain(text, infos, object.folders)
            result = dataclasses.replace(
                result,
                verifier_tail=explained.text or result.verifier_tail,
                source=explained.source or result.source,
            )
        reason = result.reason.replace("\n", " ")
        if left_out and path is None and result.outcome is not Outcome.PASSED:
            reason = f"{reason} (no verifier log: {left_out})"
        self._add(dataclasses.replace(result, reason=reason))

    def _write_log(self, result: ProgramResult, packed: str) -> tuple[Path | None, str]:
        """Write a log, which is base64 of gzip, to its file; return the path and its last part.

        If it is damaged or can't be written, there is no file: None and an empty string.
        """
        names = [part for part in Path(result.object).parts if part not in ("/", "..")]
        folder = self._logs.joinpath(*names)
        path = folder / f"{_UNSAFE.sub('_', result.program)[:200]}.log"
        try:
            # An object whose path is that of another log, such as console.log, has no folder.
            folder.mkdir(parents=True, exist_ok=True)
            with gzip.open(io.BytesIO(base64.b64decode(packed))) as log, path.open("wb") as file:
                shutil.copyfileobj(log, file, 1 << 20)
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _EXPLAINED_BYTES))
                return path, file.read().decode(errors="replace")
        except (binascii.Error, OSError, EOFError, zlib.error):
            with contextlib.suppress(OSError):
                path.unlink()
            return None, ""

    def _add(self, result: ProgramResult) -> None:
        """Add the result of a program, unless it has one already."""
        if _key(result) in self._results:
            return
        result = self._judge.judge(result)
        self._results[_key(result)] = result
        self._report(result)

    def _add_all(self, object: LoadedObject, outcome: Outcome, code: Code, reason: str) -> None:
        """Add the same result for all programs of an object."""
        for program in object.programs:
            self._add(ProgramResult(object.name, program, outcome, code=code, reason=reason))

    def skip(self, object: LoadedObject, reason: str) -> None:
        """Add `skipped` for all programs of an object, which says that it needs another kernel."""
        self._add_all(object, Outcome.SKIPPED, Code.DECLARED, reason)

    def oops(self) -> None:
        """Blame the kernel for the crashes of the loader's processes, since it had an oops."""
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
        """Add a result for each program that has none, since the loader has ended.

        Programs that it was loading have this outcome and code; the others were not run. `objects`
        are those that the loader was given, by default all of them.
        """
        untried = Outcome.INTERRUPTED if outcome is Outcome.INTERRUPTED else Outcome.ERROR
        for object in objects if objects is not None else self._objects.values():
            opening = (object.name, "") in self._started
            begun = any((object.name, program) in self._started for program in object.programs)
            for program in object.programs:
                if (object.name, program) in self._started or (opening and not begun):
                    result = ProgramResult(object.name, program, outcome, code=code, reason=reason)
                else:
                    not_run = f"not run: {reason}"
                    result = ProgramResult(
                        object.name, program, untried, code=Code.NOT_RUN, reason=not_run
                    )
                self._add(result)


def _key(result: ProgramResult) -> ProgramKey:
    return result.object, result.program
