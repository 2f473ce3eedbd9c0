"""The result of `invoke verify` on one kernel: what loading each eBPF program gave.

The file `.bpfmatrix/verify/<kernel>.json` has the fields of a `Verification` as its keys. Each
incompatible change increments `schema`.

The supervisor in the guest (`support/cmd/bpfload`) has a loader open objects and load programs, one
after another (docs/loaders.md), and prints one JSON object on each line. Its key `event` is one of
these:

- `kernel`, the first line: `release`, `arch`, `loader`, `loader_version` and `features`.
- `start`, before each step: `object`, `program` and `step`, which is `open`, `load` or `attach`. It
  tells the host which step crashed the loader or the kernel. `open` concerns the whole object, so
  its `program` is empty.
- `program`, once for each program; see below. If the supervisor dies, there is no such line, and
  the host gives the program the code `loader-crashed`.
- `map`: the fields of `MapResult`.
- `object`, for an object that could not be opened: `object`, and `failure` or `code` and `reason`.
- `end`, the last line: `seconds`. Without it, the supervisor did not finish.

`object` is always one of the paths that the supervisor was given. A `program` has these keys, and
may leave out those that have nothing to say:

- `object`, `program`, `section`, `type`, `attach_to`, `outcome`, `attached` and `seconds` are the
  fields of `ProgramResult`.
- `failure` are a loader's facts of a failure, as docs/loaders.md describes them. The host makes the
  code and the reason of them (`bpfmatrix.verify.reasons`). If the loader died or took too long, the
  supervisor gives `code` and `reason` instead: `timeout`, `loader-crashed` or `no-memory`.
- `excused`, with the outcome `skipped`: why a failure does not count, such as `it is optional`.
- `instructions`, `translated_bytes`, `jited_bytes`, `memory_bytes` and `calls` are numbers of the
  loader's result, and `statistics_log` are the lines of statistics of the verifier's log.
- `log` is the verifier's log, compressed with gzip and written as base64. Each rejected program has
  one. With `--log-level full`, each program that loaded has one too, of log level 2.
- `log_left_out`: why there is no log, for example because the guest has too little memory for it.
- `line_info`, only with a log: for each instruction at which a line of source begins, an object
  such as `{"insn": 3, "file": "a.bpf.c", "line": 12, "text": "int x = *p;"}`.
- `note`: what was left out to load the program, such as its object's BTF.

If the supervisor's arguments can't be right, such as a `--set` of a constant that no object has, it
prints one line on stderr and exits with status 2.
"""

import dataclasses
import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from bpfmatrix.results.outcome import FINE, GuestRun, Outcome

__all__ = [
    "Code",
    "MapResult",
    "ProgramKey",
    "ProgramResult",
    "RefusedObject",
    "Statistics",
    "Verification",
    "exit_status",
    "labels",
    "verdict",
]

SCHEMA = 1


class Code(enum.StrEnum):
    """Why a program did not load. The codes are stable, so that scripts can compare them."""

    VERIFIER_REJECTED = "verifier-rejected"
    TOO_COMPLEX = "too-complex"
    """The verifier reached its limit of instructions, states or jumps."""
    UNSUPPORTED_PROGRAM_TYPE = "unsupported-program-type"
    UNSUPPORTED_MAP_TYPE = "unsupported-map-type"
    UNSUPPORTED_HELPER = "unsupported-helper"
    UNSUPPORTED_KFUNC = "unsupported-kfunc"
    UNSUPPORTED_ATTACH_TYPE = "unsupported-attach-type"
    """The kernel has the program type, but not the attach type or the flags of the section."""
    UNSUPPORTED_BY_LOADER = "unsupported-by-loader"
    """The loader's library does not know something that the object uses."""
    UNKNOWN_SECTION = "unknown-section"
    """Neither the name of the program's section nor a tail call tells the program type."""
    MISSING_KSYM = "missing-ksym"
    """The program reads a symbol that this kernel does not have."""
    MISSING_KCONFIG = "missing-kconfig"
    """The program reads an option of the kernel's configuration that is unset or unknown."""
    MISSING_MODULE = "missing-module"
    """What the program needs is in a module that is not loaded."""
    MISSING_BTF = "missing-btf"
    """The program needs BTF that the kernel or the object does not have."""
    BAD_BTF = "bad-btf"
    RELOCATION_FAILED = "relocation-failed"
    """The program needs a type, a field or a value that this kernel does not have."""
    ATTACH_TARGET_MISSING = "attach-target-missing"
    ATTACH_FAILED = "attach-failed"
    """The program loaded, but could not be attached."""
    MAP_CREATE_FAILED = "map-create-failed"
    NO_MEMORY = "no-memory"
    TOO_CLOSE = "too-close"
    """The program loaded, but the verifier processed more instructions than `--max-insns`."""
    TIMEOUT = "timeout"
    LOADER_CRASHED = "loader-crashed"
    KERNEL_DIED = "kernel-died"
    """The kernel panicked, had an oops or stopped answering while it loaded the program."""
    NOT_RUN = "not-run"
    """The machine ended before the loader came to this program."""
    BAD_OBJECT = "bad-object"
    """The file is no ELF file, no eBPF, of another byte order, damaged, or has no program."""
    DECLARED = "declared"
    """Skipped, because the object or kernels.yaml says that this kernel is too old for it."""
    OPTIONAL = "optional"
    """Skipped: the program may fail (`?` in its section) and did, or a variant of it loaded."""
    LOAD_FAILED = "load-failed"
    """Any other failure: the reason has the kernel's error."""


@dataclass(frozen=True)
class Statistics:
    """What loading a program cost. None stands for what this kernel does not report.

    The sources are the verifier's log with BPF_LOG_STATS (4), which Linux 5.2 and later have,
    `bpf_prog_info`, and the program's fdinfo.
    """

    verifier_us: int | None = None
    """The time of verification, in microseconds."""
    instructions_processed: int | None = None
    instructions_limit: int | None = None
    """The kernel's limit of processed instructions."""
    peak_states: int | None = None
    total_states: int | None = None
    max_states_per_instruction: int | None = None
    stack_depth: int | None = None
    """The depth of the deepest chain of calls, in bytes of stack."""
    program_instructions: int | None = None
    """The program's instructions after relocation and linking, before verification."""
    translated_bytes: int | None = None
    """The program's size after the verifier rewrote it (`xlated_prog_len`)."""
    jited_bytes: int | None = None
    """The size of the machine code (`jited_prog_len`)."""
    memory_bytes: int | None = None
    """The locked memory that the kernel accounts to the program (`memlock` of its fdinfo)."""


@dataclass(frozen=True)
class ProgramResult:
    """One program of one object on one kernel."""

    object: str
    """The path of the object file, as the user gave it."""
    program: str
    """The name of the C function."""
    outcome: Outcome
    """`passed` (loaded), `failed`, `skipped`, `timeout`, `panic`, `lost`, `error` or
    `interrupted`."""
    loader: str = ""
    """The loader: `libbpf`, `cilium-ebpf` or `aya`; empty in files of older versions."""
    preset: str = ""
    """The preset of the object (`presets` in kernels.yaml); empty if it has none."""
    section: str = ""
    """The name of the program's ELF section."""
    type: str = ""
    """The program type, as libbpf names it: `kprobe`, `perf_event`, `sched_cls`."""
    attach_to: str = ""
    """The attach target, such as a kernel function."""
    attached: bool | None = None
    """Whether attaching worked; None if it was not requested, or is not possible in a test."""
    code: Code | None = None
    """The reason's code; None if the program loaded."""
    reason: str = ""
    """Why the program did not load, in one line. If it loaded, what was left out to load it."""
    errno: str = ""
    """The name of the error, such as `EACCES`."""
    verifier_tail: str = ""
    """The last lines of the verifier's log, which explain a rejection."""
    source: str = ""
    """The line of C source that was rejected, as `file:line`; empty if BTF does not tell."""
    log: str = ""
    """The file with the complete verifier log, a path relative to kernels.yaml; empty if none."""
    seconds: float = 0.0
    """The duration of the load, as the loader measured it."""
    statistics: Statistics = field(default_factory=Statistics)
    expected: str = ""
    """The reason that kernels.yaml gives for an expected failure; empty if none is expected."""

    @property
    def key(self) -> "ProgramKey":
        """What tells it from the other results of its kernel."""
        return ProgramKey(self.object, self.program, self.loader, self.preset)

    @property
    def failure(self) -> tuple[str, ...]:
        """What did not load and why, equal to the `failure` of a rejection of the program."""
        return self.object, self.program, str(self.code or ""), self.reason


class ProgramKey(NamedTuple):
    """What tells the result of a program from the others of a kernel."""

    object: str
    program: str
    loader: str = ""
    preset: str = ""


def labels(keys: Iterable[ProgramKey]) -> dict[ProgramKey, str]:
    """Return what to add to the name of a program that has several results, such as `aya, small`.

    A loader is named only if the results of the program have several, and so is a preset.
    """
    known: dict[tuple[str, str], list[ProgramKey]] = {}
    for key in keys:
        known.setdefault((key.object, key.program), []).append(key)
    found = {}
    for same in known.values():
        # Results of older versions name no loader.
        several_loaders = len({key.loader for key in same} - {""}) > 1
        several_presets = len({key.preset for key in same}) > 1
        for key in same:
            parts = (
                key.loader if several_loaders else "",
                key.preset if several_presets else "",
            )
            found[key] = ", ".join(filter(None, parts))
    return found


@dataclass(frozen=True)
class MapResult:
    """One map of one object on one kernel."""

    object: str
    name: str
    type: str
    memory_bytes: int | None = None
    """The memory that the kernel accounts to the map (`memlock` of its fdinfo)."""


@dataclass(frozen=True)
class RefusedObject:
    """A file that was named, or is in a folder that was, and that no loader was given."""

    object: str
    """The path of the file, as the user gave it."""
    reason: str
    """Why it can't be loaded, such as `no eBPF program: it has maps only`."""
    advice: str = ""
    """What to do about it; empty if there is nothing to say."""
    code: Code = Code.BAD_OBJECT


@dataclass(frozen=True)
class Verification(GuestRun):
    """The result of loading all programs on one kernel."""

    programs: tuple[ProgramResult, ...] = ()
    maps: tuple[MapResult, ...] = ()
    refused: tuple[RefusedObject, ...] = ()
    """The files that are no eBPF objects with programs. They are the same for all kernels."""
    schema: int = SCHEMA

    def without_files(self) -> Self:
        """Return the result without the files that the run wrote, as when they are gone."""
        programs = tuple(dataclasses.replace(one, log="") for one in self.programs)
        return dataclasses.replace(self, console="", dumps=(), programs=programs)


def verdict(programs: Iterable[ProgramResult]) -> tuple[Outcome, str]:
    """Return the outcome of a verification by its programs, and why it did not pass.

    Use this for a run in which the machine itself did not fail.
    """
    programs = list(programs)
    bad = [one for one in programs if one.outcome not in FINE and not one.expected]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        return Outcome.FAILED, f"{bad[0].program}{more}: {bad[0].reason}"
    if not programs:
        return Outcome.ERROR, "no program was loaded"
    if all(one.outcome is Outcome.SKIPPED and not one.expected for one in programs):
        return Outcome.SKIPPED, f"every program was skipped, the first one: {programs[0].reason}"
    return Outcome.PASSED, ""


def exit_status(verifications: Iterable[Verification]) -> int:
    """Return 0 if a kernel passed and every other one passed or was skipped, else 1.

    It is 2 if all is well but for files that are no eBPF objects.
    """
    verifications = list(verifications)
    outcomes = [one.outcome for one in verifications]
    if Outcome.PASSED not in outcomes or any(outcome not in FINE for outcome in outcomes):
        return 1
    return 2 if any(one.refused for one in verifications) else 0
