"""What a sweep remembers for the next one: the last result of each kernel, as JSON.

    last/tests/<kernel>.json       the results that the last sweep reported: a KernelRun each
    last/programs/<kernel>.json    likewise, a Verification each
    finished/...                   those of a sweep that has not reported yet
    sweep.json                     when the last sweep of all kernels ended

A sweep that is interrupted leaves `finished`, and the next one goes on from there. Each result has
the kernel's digest in its `provenance`, and there, under `swept`, the fingerprint of all else that
decides the result. So the folder can be kept in the cache of a CI system, and `invoke report` can
read it.
"""

import contextlib
import dataclasses
import enum
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import locks, records
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.verification import Verification
from bpfmatrix.session.workload import writing

__all__ = ["Part", "Result", "SweepState", "digest_of", "fingerprint_of"]

Result = KernelRun | Verification
_FINGERPRINT = "swept"


class Part(enum.StrEnum):
    """The two parts of a sweep: what is done on each kernel."""

    TESTS = "tests"
    """What `matrix` does."""
    PROGRAMS = "programs"
    """What `verify` does."""


def digest_of(result: Result) -> str:
    """Return the digest of the kernel that ran; empty if it is not known."""
    return str(result.provenance.get("digest", ""))


def fingerprint_of(result: Result) -> str:
    """Return the fingerprint with which the result was kept; empty if it was not."""
    return str(result.provenance.get(_FINGERPRINT, ""))


@dataclass(frozen=True)
class SweepState:
    """The folder of a sweep's state."""

    folder: Path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other sweeps from this state; BpfmatrixError if one uses it now."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Or else it would be one of the files of the repository that the tests see, and change
            # the payload with each sweep.
            if not (self.folder / ".gitignore").exists():
                (self.folder / ".gitignore").write_text("*\n")
        with contextlib.ExitStack() as stack:
            with writing(self.folder):
                is_held = stack.enter_context(locks.locked_if_free(self.folder / "lock"))
            if not is_held:
                raise BpfmatrixError(
                    f"another sweep uses {self.folder}",
                    "Wait until it has ended, or name another folder with --state.",
                )
            yield

    @property
    def swept_at(self) -> datetime | None:
        """When the last sweep of all kernels ended; None if that is not known."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return datetime.fromisoformat((records.read(self._record) or {})["at"])
        return None

    @property
    def _record(self) -> Path:
        return self.folder / "sweep.json"

    def last(self, part: Part) -> dict[str, Result]:
        """Return the results that were reported last, by kernel; a damaged one counts as none."""
        return self._read("last", part)

    def finished(self, part: Part) -> dict[str, Result]:
        """Return the results of a sweep that has not reported yet, by kernel."""
        return self._read("finished", part)

    def keep(self, part: Part, result: Result, fingerprint: str) -> None:
        """Keep the result of a kernel, until `settle`; BpfmatrixError if that is not possible."""
        path = self._path("finished", part, result.kernel)
        provenance = {**result.provenance, _FINGERPRINT: fingerprint}
        with writing(path):
            files.write(dataclasses.replace(result, provenance=provenance), path)

    def settle(
        self,
        reported: Iterable[tuple[Part, str]],
        gone: Iterable[str] = (),
        waiting: Collection[str] | None = (),
    ) -> None:
        """Make finished results the last ones, now that they are reported.

        `reported` are the parts and the kernels. The last results of the kernels in `gone` are
        removed. After a sweep of all kernels, finished results that are not reported are of no use
        any more, but for those of kernels in `waiting`, which could not be had now; it is None
        after a sweep of some kernels. BpfmatrixError if that is not possible.
        """
        with writing(self.folder):
            for part, id in reported:
                path, target = self._path("finished", part, id), self._path("last", part, id)
                target.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    path.replace(target)
            for part in Part:
                for id in gone:
                    self._path("last", part, id).unlink(missing_ok=True)
                for path in (self.folder / "finished" / part).glob("*.json"):
                    if waiting is not None and path.stem not in waiting:
                        path.unlink()
                with contextlib.suppress(OSError):  # it is not there, or has others in it
                    (self.folder / "finished" / part).rmdir()
            with contextlib.suppress(OSError):
                (self.folder / "finished").rmdir()
            if waiting is not None:
                records.write(self._record, {"at": datetime.now(UTC).isoformat(timespec="seconds")})

    def _path(self, when: str, part: Part, kernel: str) -> Path:
        return self.folder / when / part / f"{kernel}.json"

    def _read(self, when: str, part: Part) -> dict[str, Result]:
        read = files.read_run if part is Part.TESTS else files.read_verification
        found: dict[str, Result] = {}
        for path in sorted((self.folder / when / part).glob("*.json")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                result = read(path)
                found[result.kernel] = result
        return found
