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
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, MapResult, ProgramKey, ProgramResult
from bpfmatrix.session.json_lines import JsonLines
from bpfmatrix.verify import source_lines
from bpfmatrix.verify.judge import Judge
from bpfmatrix.verify.objects import LoadedObject
from bpfmatrix.verify.reasons.explain import reason_of
from bpfmatrix.verify.reasons.facts import Failure, KernelFacts, ProgramFacts, Reason
from bpfmatrix.verify.statistics import read_statistics
from bpfmatrix.verify.verifierlog import LineInfo

__all__ = ["Collector"]

# A rejection is explained from the end of its log; at most this much of it is read.
_EXPLAINED_BYTES = 2 << 20
_UNSAFE = re.compile(r"[/\0]|^\.+$")
_MESSAGE_CHARACTERS = 4 << 10
# In the note of a loader on a program that it loaded without its object's BTF (docs/loaders.md).
_WITHOUT_BTF = "without the object's BTF"

_Key = tuple[str, str]
"""The place of an object and the name of a program of it."""


class Collector:
    """Takes what the loader prints on one kernel, and reports each program's result as it comes."""

    def __init__(
        self,
        objects: Mapping[str, LoadedObject],
        logs: Path,
        relative: Callable[[Path], str],
        judge: Judge,
        report: Callable[[ProgramResult], None],
        kernel: KernelFacts | None = None,
    ) -> None:
        """`objects` are by their places: the names that the loader has for them. `logs` is the
        folder for the verifier's logs; results have the path that `relative` makes of a log's.
        """
        self._objects = objects
        self._logs = logs
        self._relative = relative
        self._judge = judge
        self._report = report
        self._kernel = kernel or KernelFacts()
        # The log of a program is a part of its event, and may have tens of megabytes.
        self._output = JsonLines()
        self._messages = Excerpt(_MESSAGE_CHARACTERS)
        self._started: set[_Key] = set()
        self._results: dict[_Key, ProgramResult] = {}
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

    def take_messages(self) -> str:
        """Return the messages, and forget them."""
        messages, self._messages = self.messages, Excerpt(_MESSAGE_CHARACTERS)
        return messages

    @property
    def loading(self) -> str:
        """The programs that have begun to be loaded and have no result yet."""
        keys = sorted(self._started - self._results.keys())
        return ", ".join(
            f"{self._objects[place].name}: {program}" for place, program in keys if program
        )

    @property
    def results(self) -> Mapping[tuple[str, str], ProgramResult]:
        """The results so far, by the place of the object and the name of the program."""
        return self._results

    @property
    def programs(self) -> tuple[ProgramResult, ...]:
        """The results, in the order of the objects and of the programs in them."""
        order = {key: number for number, key in enumerate(self._known())}
        last = len(order)
        known = sorted(self._results.items(), key=lambda item: order.get(item[0], last))
        return tuple(result for _, result in known)

    def _known(self) -> Iterable[_Key]:
        for place, object in self._objects.items():
            for program in object.programs:
                yield place, program

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
        place = str(event.get("object", ""))
        object = self._objects.get(place)
        if object and event.get("program") in object.left_out:
            return True
        try:
            match event.get("event"):
                case "start" if object:
                    self._started.add((place, str(event.get("program", ""))))
                case "program" if object:
                    self._take_program(place, object, event)
                case "object" if object:
                    self._take_object(place, object, event)
                case "map" if object:
                    size = event.get("memory_bytes")
                    self.maps.append(
                        MapResult(
                            object.name,
                            _text(event["name"]),
                            _text(event["type"]),
                            size if isinstance(size, int) else None,
                        )
                    )
                case "end":
                    self.ended += 1
                case "kernel":
                    features = event.get("features") or {}
                    btf = features.get("btf")
                    if isinstance(btf, bool):
                        self._kernel = dataclasses.replace(self._kernel, has_btf=btf)
                case _:
                    return False
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
        return True

    def _take_object(self, place: str, object: LoadedObject, event: dict[str, Any]) -> None:
        """Take an object that could not be opened."""
        errno = ""
        if "failure" in event:
            failure = Failure.parse(event["failure"])
            errno = failure.errno
            reason = reason_of(failure, ProgramFacts(), self._kernel, object.loader)
        else:
            reason = Reason(Code(event["code"]), _text(event["reason"]))
        self._add_all(place, Outcome.FAILED, reason, errno)

    def _take_program(self, place: str, object: LoadedObject, event: dict[str, Any]) -> None:
        outcome, seconds = Outcome(event["outcome"]), float(event.get("seconds") or 0)
        if not math.isfinite(seconds):
            raise ValueError("seconds is no number")
        infos = [
            LineInfo(int(one["insn"]), str(one["file"]), int(one["line"]), str(one.get("text", "")))
            for one in event.get("line_info") or []
        ]
        attached, statistics_log = event.get("attached"), str(event.get("statistics_log") or "")
        result = ProgramResult(
            object.name,
            str(event["program"]),
            outcome,
            loader=object.loader,
            preset=object.preset,
            section=_text(event.get("section")),
            type=_text(event.get("type")),
            attach_to=_text(event.get("attach_to")),
            attached=attached if isinstance(attached, bool) else None,
            reason=_text(event.get("note")) if outcome is Outcome.PASSED else "",
            seconds=seconds,
            statistics=read_statistics(event, statistics_log),
        )
        left_out, packed = _text(event.get("log_left_out")), event.get("log")
        path, text = self._write_log(object, result.program, packed) if packed else (None, "")
        if path is not None:
            result = dataclasses.replace(result, log=self._relative(path))
        elif text:
            left_out = "it could not be written"
        if outcome is not Outcome.PASSED:
            result = self._with_reason(result, event, text or statistics_log)
            if left_out and path is None:
                reason = f"{result.reason} (no verifier log: {left_out})"
                result = dataclasses.replace(result, reason=reason)
        if outcome is Outcome.FAILED and text:
            explained = source_lines.explain(text, infos, object.folders)
            result = dataclasses.replace(
                result, verifier_tail=explained.text, source=explained.source
            )
        if infos:
            self.lines[result.key] = infos
        if left_out:
            self.left_out[result.key] = left_out
        self._add(place, result)

    def _with_reason(
        self, result: ProgramResult, event: Mapping[str, Any], log: str
    ) -> ProgramResult:
        """Return the result with the reason, the code and the errno of a failure or a skip."""
        excused, errno = _text(event.get("excused")), ""
        reason: Reason | None = None
        if "failure" in event:
            failure = Failure.parse(event["failure"], log)
            facts = ProgramFacts(result.type, result.section, result.attach_to)
            count = result.statistics.program_instructions
            reason = reason_of(failure, facts, self._kernel, result.loader, count)
            errno = failure.errno
        elif "code" in event:
            reason = Reason(Code(event["code"]), _text(event.get("reason")))
        note = _text(event.get("note"))
        if reason and reason.code is Code.MISSING_BTF and _WITHOUT_BTF in note:
            reason = Reason(Code.BAD_BTF, f"{reason.text} ({note})")
        if excused:
            why = f"; {reason.code}: {reason.text}" if reason else ""
            reason = Reason(Code.OPTIONAL, f"{excused}{why}")
        if reason is None:
            reason = Reason(Code.LOAD_FAILED, "the loader gave no reason")
        return dataclasses.replace(result, code=reason.code, reason=reason.text, errno=errno)

    def _write_log(
        self, object: LoadedObject, program: str, packed: object
    ) -> tuple[Path | None, str]:
        """Write a log, which is base64 of gzip, to its file; return the path and its last part.

        If it can't be written, there is no path; if it is damaged, there is no text either.
        """
        # The name of an image has a colon, with which GitHub takes no file of an artifact.
        parts_of_name = Path(object.name.replace(":", "_")).parts
        names = [part for part in parts_of_name if part not in ("/", "..")]
        folder = self._logs.joinpath(*names)
        # The same program of the same object has a log for each loader and preset.
        parts = (program[:150], object.label[:50])
        name = ".".join(_UNSAFE.sub("_", part) for part in parts if part)
        path: Path | None = folder / f"{name}.log"
        tail = b""
        with contextlib.ExitStack() as stack:
            try:
                # An object whose path is that of another log, such as console.log, has no folder.
                folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context((folder / f"{name}.log").open("wb"))
            except OSError:
                file, path = None, None
            try:
                with gzip.open(io.BytesIO(base64.b64decode(str(packed)))) as log:
                    while chunk := log.read(1 << 20):
                        tail = (tail + chunk)[-_EXPLAINED_BYTES:]
                        if file is not None and path is not None:
                            path = _write(file, chunk, path)
            except (binascii.Error, EOFError, zlib.error, OSError):
                tail, path = b"", None
        if path is None:
            with contextlib.suppress(OSError):
                (folder / f"{name}.log").unlink()
        return path, tail.decode(errors="replace")

    def _add(self, place: str, result: ProgramResult) -> None:
        """Add the result of a program, unless it has one already."""
        key = (place, result.program)
        if key in self._results:
            return
        result = self._judge.judge(result)
        self._results[key] = result
        self._report(result)

    def _add_all(self, place: str, outcome: Outcome, reason: Reason, errno: str = "") -> None:
        """Add the same result for all programs of an object."""
        for program in self._objects[place].programs:
            self._add_one(place, program, outcome, reason, errno)

    def _add_one(
        self, place: str, program: str, outcome: Outcome, reason: Reason, errno: str = ""
    ) -> None:
        object = self._objects[place]
        result = ProgramResult(
            object.name,
            program,
            outcome,
            loader=object.loader,
            preset=object.preset,
            code=reason.code,
            reason=reason.text,
            errno=errno,
        )
        self._add(place, result)

    def skip(self, place: str, reason: str) -> None:
        """Add `skipped` for all programs of an object, which says that it needs another kernel."""
        self._add_all(place, Outcome.SKIPPED, Reason(Code.DECLARED, reason))

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
        places: Sequence[str] | None = None,
    ) -> None:
        """Add a result for each program that has none, since the loader has ended.

        Programs that it was loading have this outcome and code; the others were not run. `places`
        are those of the objects that the loader was given, by default all of them.
        """
        began, not_run = Reason(code, reason), Reason(Code.NOT_RUN, f"not run: {reason}")
        untried = Outcome.INTERRUPTED if outcome is Outcome.INTERRUPTED else Outcome.ERROR
        for place in places if places is not None else self._objects:
            programs = self._objects[place].programs
            opening = (place, "") in self._started
            begun = any((place, program) in self._started for program in programs)
            for program in programs:
                if (place, program) in self._started or (opening and not begun):
                    self._add_one(place, program, outcome, began)
                else:
                    self._add_one(place, program, untried, not_run)


def _write(file: BinaryIO, chunk: bytes, path: Path) -> Path | None:
    """Write a part of a log; return its path, or None if there is no room for it."""
    try:
        file.write(chunk)
        file.flush()
    except OSError:
        return None
    return path


def _text(value: object) -> str:
    """Return a value of an event as one line; empty for None."""
    return "" if value is None else " ".join(str(value).split())
