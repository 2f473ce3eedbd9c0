"""What `invoke verify` knows of each program on each kernel, and the file that it is kept in.

`.bpfmatrix/verify/<kernel>.json` is a `Verification` as it stands here; `schema` counts its
incompatible changes. The loader in the guest (`support/cmd/bpfload`) prints one JSON object to a
line, `{"event": "program", ...}`, whose other keys are the fields of `ProgramResult` below; what
is not there has its default, and which never is about another `object` than a path that it was
given. Three of its keys are not kept in the file as they are:

- `log`: the verifier's log, as base64 of gzip: for each program that was rejected, and for those
  that loaded with `--log-level full`, where it is that of level 2;
- `log_left_out`: why there is none, such as one that the guest has no memory for;
- `line_info`: `{"insn": 3, "file": "a.bpf.c", "line": 12, "text": "int x = *p;"}` for each
  instruction at which a line of the source begins, along with a log.

`statistics` is an object. The loader's other events are `kernel`, the first line (`release`,
`arch`, `features`); `start` (`object`, `program`, `step`: `open`, `load` or `attach`), before each
step, so that the host knows which one crashed the loader or the kernel (`open` is of the whole
object, with an empty `program`); `map`, the fields of `MapResult`; `object`, one that could not
even be read (`object`, `code`, `reason`); and `end`, the last line (`seconds`), without which it
did not finish. A program has one `program` event; where the loader died with it, `loader-crashed`
tells. Words of the command line that can't be meant (a `--set` of what no object has) make it exit
with 2, with one line on stderr.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from bpfmatrix.results.outcome import FINE, GuestRun, Outcome

__all__ = [
    "Code",
    "MapResult",
    "ProgramResult",
    "Statistics",
    "Verification",
    "exit_status",
    "verdict",
]

SCHEMA = 1


class Code(enum.StrEnum):
    """Why a program did not load. Stable: scripts may compare these."""

    VERIFIER_REJECTED = "verifier-rejected"
    TOO_COMPLEX = "too-complex"
    """The verifier gave up at its limit of instructions, states or jumps."""
    UNSUPPORTED_PROGRAM_TYPE = "unsupported-program-type"
    UNSUPPORTED_MAP_TYPE = "unsupported-map-type"
    UNSUPPORTED_HELPER = "unsupported-helper"
    UNSUPPORTED_KFUNC = "unsupported-kfunc"
    UNKNOWN_SECTION = "unknown-section"
    """Its section's name says no program type, and no tail call tells one either."""
    MISSING_BTF = "missing-btf"
    """The program needs the kernel's BTF, or its own, and there is none."""
    BAD_BTF = "bad-btf"
    RELOCATION_FAILED = "relocation-failed"
    """A type, field, symbol or option that it reads of the kernel, and this one does not have."""
    ATTACH_TARGET_MISSING = "attach-target-missing"
    ATTACH_FAILED = "attach-failed"
    """It loaded; attaching it did not work."""
    MAP_CREATE_FAILED = "map-create-failed"
    NO_MEMORY = "no-memory"
    TOO_CLOSE = "too-close"
    """It loaded, with more instructions processed than `--max-insns` allows."""
    TIMEOUT = "timeout"
    LOADER_CRASHED = "loader-crashed"
    KERNEL_DIED = "kernel-died"
    """The kernel panicked, had an oops or fell silent while it loaded this."""
    NOT_RUN = "not-run"
    """The machine ended before its turn came."""
    BAD_OBJECT = "bad-object"
    """No ELF, no eBPF, another byte order, no program, or broken."""
    DECLARED = "declared"
    """Skipped, because the object or kernels.yaml says that this kernel is too old for it."""
    OPTIONAL = "optional"
    """Skipped: it failed and may (`?` in its section), or a variant of it was loaded."""
    LOAD_FAILED = "load-failed"
    """None of the above: the reason has the kernel's error."""


@dataclass(frozen=True)
class Statistics:
    """What a load cost, as far as this kernel tells; None where it does not.

    From the verifier's log at BPF_LOG_STATS (4), which 5.2 and later print, and from
    `bpf_prog_info`.
    """

    verifier_us: int | None = None
    """Verification time, in microseconds."""
    instructions_processed: int | None = None
    instructions_limit: int | None = None
    peak_states: int | None = None
    total_states: int | None = None
    max_states_per_instruction: int | None = None
    stack_depth: int | None = None
    """The deepest stack of its functions and those that they call, in bytes."""
    program_instructions: int | None = None
    """As in the object, after relocation and linking, before the verifier."""
    translated_bytes: int | None = None
    """After the verifier's rewriting (`xlated_prog_len`)."""
    jited_bytes: int | None = None
    memory_bytes: int | None = None
    """Locked memory that the kernel accounts to the program (`memlock` of its fdinfo)."""


@dataclass(frozen=True)
class ProgramResult:
    """One program of one object on one kernel."""

    object: str
    """The object's path as it was given."""
    program: str
    """The C function's name."""
    outcome: Outcome
    """`passed` (loaded), `failed`, `skipped`, `timeout`, `panic`, `lost` or `error`."""
    section: str = ""
    type: str = ""
    """As libbpf names it: `kprobe`, `perf_event`, `sched_cls`."""
    attach_to: str = ""
    attached: bool | None = None
    """None where attaching was not asked for, or is not possible in a test."""
    code: Code | None = None
    """None if it loaded."""
    reason: str = ""
    """Why it did not load, in one line; if it did, what was left out for that."""
    errno: str = ""
    """Such as `EACCES`."""
    verifier_tail: str = ""
    """The verifier's last lines that explain a rejection."""
    source: str = ""
    """`file:line` of the C source that the rejection speaks of, where the object's BTF has it."""
    log: str = ""
    """The verifier's whole log, a path relative to kernels.yaml; empty where there is none."""
    seconds: float = 0.0
    """The whole load, as the loader saw it."""
    statistics: Statistics = field(default_factory=Statistics)
    expected: str = ""
    """The reason that kernels.yaml gives for a failure that is expected; empty where none is."""


@dataclass(frozen=True)
class MapResult:
    """One map of one object on one kernel."""

    object: str
    name: str
    type: str
    memory_bytes: int | None = None
    """What the kernel accounts for it (`memlock` of its fdinfo)."""


@dataclass(frozen=True)
class Verification(GuestRun):
    """All that is known of one kernel's loads."""

    programs: tuple[ProgramResult, ...] = ()
    maps: tuple[MapResult, ...] = ()
    schema: int = SCHEMA


def verdict(programs: Iterable[ProgramResult]) -> tuple[Outcome, str]:
    """Return the outcome of a verification whose machine did its job, and why it did not pass."""
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
    """Return 0 if something loaded and nothing failed that should not; else 1.

    A kernel on which everything was skipped, as declared, is fine beside one that passed.
    """
    outcomes = [one.outcome for one in verifications]
    fine = Outcome.PASSED in outcomes and all(outcome in FINE for outcome in outcomes)
    return 0 if fine else 1
