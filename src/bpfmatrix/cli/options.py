"""The options of the command line: name, letter, value and help of each, for nox and for invoke.

`values` reads what was typed. Another module builds the parser of a nox session (`sessions`) or of
an invoke task (`tasks.declaration`) from these options. A letter has one meaning in all sessions
and tasks, and is none of invoke's own letters.
"""

import dataclasses
import enum
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from bpfmatrix.host.architecture import ARCHITECTURES

if TYPE_CHECKING:
    from bpfmatrix.verify.baseline import BaselineName

__all__ = ["AnyOption", "Option", "OptionKind"]

S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
NETWORKS = ("user", "none")
# A clock of 1 kHz leaves an emulated CPU some time for the script.
_MOST_SAMPLES = 1000
CI_SYSTEMS = ("github", "gitlab")
# What kernels.yaml calls the parts of a run (`Included`); the models are slow to import.
INCLUDED = ("tests", "verify")


class OptionKind(enum.Enum):
    """How often an option takes a value."""

    FLAG = enum.auto()
    """Never: it is given or not."""
    VALUE = enum.auto()
    REPEATED = enum.auto()
    """Each time that it is given."""


@dataclass(frozen=True)
class Option(Generic[T_co]):
    """One option. `T_co` is the type of what `values` returns for it."""

    name: str
    """Without the dashes, such as `max-insns`."""
    help: str
    kind: OptionKind
    default: T_co
    """The value if the option is not given."""
    metavar: str = ""
    """What stands for the value in a help text; nothing for a flag."""
    parse: Callable[[str], Any] = str
    """Turns one value's text into the value, or says in a ValueError what was expected."""
    letter: str = ""
    required: bool = False
    """Whether a command needs it."""
    positional: bool = False
    """Whether invoke also takes the value without the option's name; it does if it is required."""

    def with_help(self, help: str) -> "Option[T_co]":
        """Return the option with another help text, for a command in which its meaning differs."""
        return dataclasses.replace(self, help=help)

    def as_required(self: "Option[S | None]") -> "Option[S]":
        """Return the option as one that always has a value."""
        return dataclasses.replace(cast("Option[S]", self), required=True)

    def as_positional(self) -> "Option[T_co]":
        """Return the option as one whose name can be left out before its value."""
        return dataclasses.replace(self, positional=True)


AnyOption = Option[Any]


def _flag(name: str, help: str) -> Option[bool]:
    return Option(name, help, OptionKind.FLAG, default=False)


def _text(name: str, metavar: str, help: str, letter: str = "") -> Option[str | None]:
    return Option(name, help, OptionKind.VALUE, None, metavar, letter=letter)


def _value(
    name: str, metavar: str, help: str, parse: Callable[[str], T], letter: str = ""
) -> Option[T | None]:
    return Option(name, help, OptionKind.VALUE, None, metavar, parse, letter)


def _repeated(
    name: str, metavar: str, help: str, parse: Callable[[str], T], letter: str = ""
) -> Option[tuple[T, ...]]:
    nothing: tuple[T, ...] = ()
    return Option(name, help, OptionKind.REPEATED, nothing, metavar, parse, letter)


# The parse functions. Imports of what is slow are inside them: `nox -l` and `invoke -l` need none.


def _duration(text: str) -> float:
    from bpfmatrix.config.value_types import parse_duration

    return parse_duration(text)


def _tests(text: str) -> str:
    from bpfmatrix.results.go_regexp import refusal
    from bpfmatrix.results.names import split_pattern

    parts = split_pattern(text)
    if why := refusal(parts[1] if parts else text):
        raise ValueError(f"not a regular expression: {why}")
    return text


def _max_insns(text: str) -> str:
    from bpfmatrix.config.value_types import parse_max_insns

    return parse_max_insns(text)


def _variable(text: str) -> str:
    from bpfmatrix.exec.environment import parse_variable

    return parse_variable(text)


def _user(text: str) -> str:
    from bpfmatrix.config.value_types import parse_user

    return parse_user(text)


def _capabilities(text: str) -> tuple[str, ...]:
    from bpfmatrix.config.value_types import parse_capability

    return () if text == "none" else tuple(map(parse_capability, text.split(",")))


def _memlock(text: str) -> str:
    from bpfmatrix.config.value_types import parse_memlock

    parse_memlock(text)
    return text


def _included(text: str) -> str:
    if text not in INCLUDED:
        raise ValueError(f"expected {' or '.join(INCLUDED)}")
    return text


def _flags(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def _rate(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_SAMPLES:
        raise ValueError(f"expected a number from 1 to {_MOST_SAMPLES}")
    return int(text)


def _written_file(text: str) -> Path:
    """Return the path of a file that is to be written."""
    path = Path(text)
    if not text:
        raise ValueError("expected the name of a file")
    if path.is_dir() or text.endswith("/"):
        raise ValueError("expected the name of a file, and this is a folder")
    return path


def _csv(text: str) -> str:
    return text if text == "-" else str(_written_file(text))


def _file_or_baseline(text: str) -> "Path | BaselineName":
    from bpfmatrix.verify.baseline import BaselineName

    return BaselineName.parse(text) or Path(text)


def _written_file_or_baseline(text: str) -> "Path | BaselineName":
    from bpfmatrix.verify.baseline import BaselineName

    return BaselineName.parse(text) or _written_file(text)


def _object(text: str) -> str:
    if not text:
        raise ValueError("expected the name of an object or a folder")
    return text


def _kernels(text: str) -> str:
    if not all(map(str.strip, text.split(","))):
        raise ValueError("expected ids with commas between them, such as 5.10,6.1")
    return text


def _growth(text: str) -> float:
    number = text.removesuffix("%")
    if not text.endswith("%") or not number.isdecimal():
        raise ValueError("expected a share such as 10%")
    return int(number) / 100


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected a whole number") from None


def _count(text: str) -> int:
    number = _number(text)
    if number < 0:
        raise ValueError("expected a number of rows, such as 10")
    return number


def _filters(text: str) -> tuple[Any, ...]:
    """Return the filters that a text has, or the file behind an `@`: one on each line."""
    from bpfmatrix.verify.selection import parse_filter

    if not text.startswith("@"):
        return (parse_filter(text),)
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(getattr(error, "strerror", None) or "no text in UTF-8") from error
    words = (line.strip() for line in lines)
    return tuple(parse_filter(word) for word in words if word and not word.startswith("#"))


def _order(text: str) -> tuple[Any, ...]:
    from bpfmatrix.verify.selection import parse_sort

    return parse_sort(text)


def _ci_system(text: str) -> str:
    if text not in CI_SYSTEMS:
        raise ValueError(f"expected {' or '.join(CI_SYSTEMS)}")
    return text


def _number_of_machines(text: str) -> int:
    number = _number(text)
    if number < 1:
        raise ValueError("expected a number of machines, such as 2")
    return number


def _existing_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError("no such file")
    return path


def _existing_path(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise ValueError("no such file")
    return path


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError("expected NAME=VALUE")
    return name, value


def _loaders(text: str) -> tuple[str, ...]:
    from bpfmatrix.config.value_types import LOADERS

    names = tuple(filter(None, map(str.strip, text.split(","))))
    for name in names:
        if name not in LOADERS:
            raise ValueError(f"expected one of {', '.join(LOADERS)}, or several with commas")
    if not names:
        raise ValueError("expected the name of a loader")
    return names


def _gdb_commands(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(";"))))


def _shell_words(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def _repository(text: str) -> Any:
    from bpfmatrix.oci.reference import Reference, repository

    return Reference.parse(repository(text))


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text

    return parse


# Kernels
KERNEL = _text("kernel", "ID", "The id of a kernel in kernels.yaml, such as 6.1.", "k")
ONE_KERNEL = KERNEL.as_required()
IMAGE = _value(
    "image",
    "FILE",
    "A kernel that kernels.yaml does not declare: a vmlinuz, bzImage, Image or vmlinux.",
    Path,
)
KERNELS = _value(
    "kernels",
    "IDS",
    'Ids or patterns of kernels in kernels.yaml, such as 5.10,6.1 or "6.*". Default: the matrix.',
    _kernels,
)
IDS = _repeated(
    "ids",
    "ID",
    "The id of a kernel in kernels.yaml, such as 6.1. Repeatable; --ids itself can be left out. "
    "Default: each kernel of the matrix.",
    str,
)
TO = _value(
    "to",
    "REGISTRY/NAME",
    "The repository that is pushed to, such as oci://ghcr.io/you/kernels. http:// in place of "
    "oci:// is for a registry without TLS. Default: `registry` of kernels.yaml.",
    _repository,
)
SIGN = _flag(
    "sign", "Sign each image, with cosign or else notation, whichever of them is installed."
)
KEY = _text(
    "key",
    "KEY",
    "The key to sign with, as `cosign sign --key` or `notation sign --key` takes it. Default: "
    "what that program uses without one.",
)
AVAILABLE = _flag("available", "Also every series that the apt suites of kernels.yaml have now.")
JOBS = _value(
    "jobs",
    "N",
    "How many machines run at the same time. Default: what the host's cores and memory allow.",
    _number_of_machines,
    "j",
)

# Guest sessions
COLD = _flag("cold", "Boot the kernel, even if there is a template of it.")
ROOTFS = _text(
    "rootfs",
    "ROOT",
    "The root file system of the tests. host: the host's files, which the guest can't change. "
    "oci:debian:12: an image of a registry. DIR: a folder with a root file system, or with an "
    "image (an OCI layout). none: the guest only has busybox.",
)
TOOLS = _flag("tools", "Bring perf, bpftrace and bpftool, from Debian's packages.")
SHARE = _repeated(
    "share",
    "DIR[:rw]",
    "A folder of the host that the guest sees too, and can change if :rw follows. Repeatable.",
    str,
)
NET = _value(
    "net",
    "user|none",
    "user: the guest has QEMU's user network. none, the default: it has no network.",
    _one_of(*NETWORKS),
)
ENV = _repeated(
    "env",
    "NAME[=VALUE]",
    "A variable that the command gets, even one that is left out for being a secret or the host's. "
    "Repeatable.",
    _variable,
)
USER = _value("user", "NAME", "The user of the tests, a name or a number. Default: root.", _user)
CAPABILITIES = _value(
    "capabilities",
    "NAMES",
    "The capabilities that the tests keep, such as CAP_BPF,CAP_PERFMON, or none.",
    _capabilities,
)
MEMLOCK = _value(
    "memlock",
    "SIZE",
    "The limit of locked memory: a size such as 64K, unlimited, or default (the kernel's own).",
    _memlock,
)
PROFILE = _repeated(
    "profile",
    "NAME",
    "A profile of kernels.yaml with which the kernels are run: 6.1 is then 6.1@NAME. Repeatable.",
    str,
)
GUEST_CORE = _value(
    "core",
    "FILE",
    "Open the core file of a guest's memory, which a run with --dump wrote, and boot nothing. "
    "That of a test, which run --core keeps, is for gdb itself.",
    Path,
)
DUMP = _flag(
    "dump",
    "Keep a core file of the memory of a guest that panics: `bpfmatrix debug --core` opens it.",
)
CORE = _flag(
    "core",
    "Keep the core file, and the test binary, of a test that a signal kills. For the memory of a "
    "guest, see --dump.",
)

# Tests
RUN = _value(
    "run",
    "REGEX",
    "Run only the tests whose names match this regular expression; PACKAGE:REGEX for those of "
    "Go packages whose import paths are, or end in, PACKAGE.",
    _tests,
)
BINARY = _repeated(
    "binary",
    "PATH",
    "A test binary to run instead of the declared tests. Repeatable.",
    _existing_file,
    "b",
)
TIMEOUT = _value(
    "timeout", "DURATION", "The time limit of each test binary, such as 30s or 2m.", _duration, "t"
)
ONLY = _value(
    "only",
    "tests|verify",
    "Run only the tests, or only load the eBPF objects, whatever matrix.includes says.",
    _included,
)
CACHED = _flag("cached", "Reuse the results of kernels for which nothing has changed.")
FRESH = _flag("fresh", "Run every kernel again, whatever results there are.")

# Object files
OBJECTS = _repeated(
    "objects",
    "OBJECT",
    "An eBPF object file, a folder of them, a pattern, or an image with objects (oci:NAME). "
    "Repeatable; --objects itself can be left out.",
    _object,
)
OBJECT = _repeated(
    "object",
    "OBJECT",
    "Load this eBPF object file instead of running tests: also a folder of them, a pattern, or an "
    "image with objects (oci:NAME). Repeatable.",
    _object,
)
LOADER = _value(
    "loader",
    "LOADERS",
    "The library that loads the objects: libbpf, cilium-ebpf or aya. With several, such as "
    "libbpf,cilium-ebpf, each loads them, and what they differ in is shown.",
    _loaders,
)
PRESET = _repeated(
    "preset",
    "NAME",
    "A preset of the objects (verify.objects.presets) to load. Repeatable. Default: all of them.",
    str,
)
ATTACH = _flag("attach", "Also attach each program that can be attached, and detach it.")
MAX_INSNS = _value(
    "max-insns",
    "SHARE",
    "Fail a program that takes more than this share of the verifier's instruction limit, such as "
    "80%, or more than this number.",
    _max_insns,
)
LIMIT = _value(
    "limit", "DURATION", "The time limit for loading one program, such as 30s.", _duration
)
SET = _repeated(
    "set",
    "NAME=VALUE",
    "The value of a constant (const volatile) of the objects. Repeatable.",
    _pair,
)
MAP_SIZE = _repeated(
    "map-size",
    "NAME=ENTRIES",
    "The number of entries of a map that is sized at run time. Repeatable.",
    _pair,
)
STATISTICS = _flag("statistics", "Show each kernel's statistics, even for several kernels.")
ANNOTATE = _text(
    "annotate",
    "PROGRAM",
    "Print the source of this program, with what each line costs the verifier.",
)
SAVE = _value(
    "save",
    "FILE|baseline",
    "Write the results into this file, or let git keep them as this commit's baseline, for "
    "--against.",
    _written_file_or_baseline,
)
PUSH = _flag("push", "With --save baseline: push the baseline, so that CI and others have it.")
AGAINST = _value(
    "against",
    "FILE|baseline",
    "Compare with the results in this file, or with the baseline of the nearest commit in this "
    "history (baseline:REVISION: in another), and exit with 1 only if something got worse.",
    _file_or_baseline,
)
CHANGES = _value(
    "changes",
    "FILE",
    "With --against: write the comparison into this file, as Markdown.",
    _written_file,
)
THRESHOLD: Option[float] = Option(
    "threshold",
    "How much more a program may cost than in --against. Default: 10%.",
    OptionKind.VALUE,
    0.1,
    "PERCENT",
    _growth,
)

FILTER = _repeated(
    "filter",
    "FILTER",
    "Load only programs whose file or name matches GLOB or FILE/PROGRAM, or show only what is like "
    "insns>1000 or verdict==failure; with ! in front, the others. @FILE has a filter on each line. "
    "Repeatable.",
    _filters,
)
SORT: Option[tuple[Any, ...]] = Option(
    "sort",
    "The order of what is shown, such as insns,file: the largest numbers first, or with ^ behind "
    "the column's name the smallest.",
    OptionKind.VALUE,
    (),
    "COLUMNS",
    _order,
)
TOP = _value("top", "N", "Show only the first N rows.", _count)
REPLAY = _repeated(
    "replay",
    "PATH",
    "Boot nothing, but show the results in this file, or in the files of this folder, which --save "
    "or an earlier run wrote. Repeatable.",
    _existing_path,
)
CSV = _value("csv", "FILE|-", "Write the results as CSV into this file, or print them.", _csv)

# Bisections
GOOD = _text(
    "good",
    "ID",
    "A kernel on which it works, such as 6.12. Default: the newest or the oldest one.",
)
BAD = _text(
    "bad",
    "ID",
    "A kernel on which it does not work, such as 5.10. Default: the newest or the oldest one.",
)
OLDEST = _flag(
    "oldest",
    "Find the oldest kernel on which everything of the objects loads, and why not on older ones.",
)
BUILD = _flag("build", "Also try releases that have to be built first, which takes minutes each.")
TREE = _value(
    "tree",
    "DIR",
    "A git repository of Linux: find the commit, between the revisions --good and --bad.",
    Path,
)
PROGRAM = _text("program", "NAME", "The eBPF program that loads, or does not load.")
SKIPPED: Option[str] = Option(
    "skipped",
    "How a kernel that skips all of the tests counts: good, bad, or unknown (the default).",
    OptionKind.VALUE,
    "unknown",
    "ANSWER",
    _one_of("good", "bad", "unknown"),
)

# Sweeps
STATE = _value(
    "state",
    "DIR",
    "The folder with the results of the last sweep. Default: .bpfmatrix/sweep.",
    Path,
)

# Debugging
BREAK = _repeated(
    "break",
    "PLACE",
    "Where gdb stops: a function, FILE:LINE of the kernel or of a program, its insn:NUMBER, "
    "or rejection: where the verifier rejects one. Repeatable. Default: the verifier's entry.",
    str,
)
BATCH = _value(
    "batch",
    "COMMANDS",
    "gdb's commands at the first stop, with ; between them; gdb then ends.",
    _gdb_commands,
)
GDB_ARGS: Option[tuple[str, ...]] = Option(
    "gdb-args", "Further arguments of gdb.", OptionKind.VALUE, (), "ARGUMENTS", _shell_words
)
ATTACH_LATER = _flag(
    "attach-later", "Do not start gdb, but print the command that starts it in another terminal."
)
PORT: Option[int] = Option(
    "port",
    "A TCP port for gdb on 127.0.0.1, which lets any local user, and a guest with a network, read "
    "and write your files through QEMU. Default: a Unix socket that only you can reach.",
    OptionKind.VALUE,
    0,
    "PORT",
    _number,
)
JSON_PORT = _flag(
    "json-port", "Like --attach-later, but print socket, vmlinux and commands as one line of JSON."
)
VMLINUX = _value(
    "vmlinux", "FILE", "The kernel's vmlinux with DWARF, if it can't be found or fetched.", Path
)
SOURCE = _value("source", "DIR", "The kernel's source tree.", Path)
NAMES = _flag(
    "names", "Use only the names of functions: fetch no debug information, and show no source."
)
ACCEL: Option[str] = Option(
    "accel",
    "kvm: run the guest under KVM. gdb then uses the processor's own breakpoints, of which there "
    "are few. Default: tcg, which is emulation.",
    OptionKind.VALUE,
    "tcg",
    "NAME",
    _one_of("tcg", "kvm"),
)
VSCODE = _flag("vscode", "Write a launch configuration for Visual Studio Code; start nothing.")

# Profiles
SCRIPT = _value(
    "script",
    "SCRIPT",
    "The Python script. What it imports is in the guest too. --script itself can be left out.",
    Path,
).as_positional()
MODULE = _text("module", "NAME", "Run a module in place of a script, as `python -m` does.", "m")
PYTHON = _text(
    "python",
    "PATH",
    "The Python of the host that runs the script, with its packages. Default: that of "
    "BPFMATRIX_PYTHON, of the active virtual environment, or the first usable one on PATH.",
)
_NO_FLAGS: tuple[str, ...] = ()
PYTHON_ARGS = Option(
    "python-args",
    "Flags of Python itself, such as --python-args='-O -X dev'.",
    OptionKind.VALUE,
    _NO_FLAGS,
    "FLAGS",
    _flags,
)
RATE = _value("rate", "N", "The number of samples of each CPU in a second. Default: 200.", _rate)
PROFILES = _repeated(
    "output",
    "FILE",
    "Also write the profile into this file. Repeatable. The end of its name says how: .svg (flame "
    "graph), .speedscope.json, .pb.gz (pprof), .folded or .txt (folded stacks).",
    _written_file,
    "o",
)
FLAMEGRAPH = _value(
    "flamegraph", "FILE", "Also write a flame graph (SVG), whatever the file's name.", _written_file
)

# Results
FILES = _repeated(
    "files",
    "PATH",
    "A file or folder of results. Repeatable; --files itself can be left out. Default: the last "
    "results of this project.",
    Path,
)
FORMAT = _text(
    "format",
    "FORMAT",
    "table, json, junit, markdown or html. Default: by the name of --output, or else table.",
)
OUTPUT = _value(
    "output", "FILE", "The file to write. Default: a file in .bpfmatrix.", _written_file, "o"
)
RAW = _flag(
    "raw",
    "Print what tests and kernels say as it is, with escape sequences and commands for CI.",
)
JSON = _flag("json", "Print JSON.")
TEST = _text("test", "NAME", "Print the output of this test binary, not the kernel's console.")
FOLLOW = _flag("follow", "Keep printing what is added, until the run ends.")

# Building, fetching and removing
CI = _value("ci", "SYSTEM", "Also write the file of a CI system: github or gitlab.", _ci_system)
HERE = _flag("here", "Also in a folder below a kernels.yaml, which is used here until then.")
DRY_RUN = _flag("dry-run", "Print what would be written, and write nothing.")
ARCH = _value(
    "arch",
    "ARCH",
    f"{' or '.join(ARCHITECTURES)}. Default: that of defaults in kernels.yaml.",
    _one_of(*ARCHITECTURES),
)
VERSION = _text(
    "version",
    "VERSION",
    "A release such as 5.4.276, or a series such as 6.1, which means its newest release.",
).as_required()
FROM = _text(
    "from",
    "SOURCE",
    "kernel.org (the default), apt (Debian's linux-source), or a folder with a source tree.",
)
CONFIG = _repeated("config", "FILE", "A further fragment of kernel options. Repeatable.", Path)
DEBUG = _flag("debug", "Add debug.config, and keep the debug information in vmlinux.")
URL = _text("url", "URL", "A server with kernel.org's layout, to fetch from instead.")
KEYRING = _value("keyring", "FILE", "The keys that may sign kernel.org's checksums.", Path)
SHA256 = _text("sha256", "DIGEST", "The checksum of the tarball, instead of a signed checksum.")
SUITE = _text(
    "suite", "SUITE", "The suite of Debian. Default: the first suite that has the series."
)
REFRESH = _flag("refresh", "First fetch the indexes of the sources.")
WARM = _flag("warm", "Also boot each kernel once, and keep it as the template of later runs.")
TEXT = _text(
    "text", "TEXT", "What to look for in the names and versions of packages."
).as_required()
MIRROR = _repeated(
    "mirror",
    "URL",
    "A mirror of Debian, such as http://mirror.example.org/debian. Default: show the present one.",
    str,
)
SECURITY = _text(
    "security",
    "URL",
    "Debian's security archive. Default: the folder debian-security beside the mirror.",
)
OLD_STATE = _flag("old-state", "Also take an index that has expired, as a snapshot has it.")
ALL = _flag("all", "Also remove what is in use, and apt's indexes.")

# The command line itself
SHELLS = ("bash", "zsh", "fish")
SHELL = _value("shell", "SHELL", "bash, zsh or fish.", _one_of(*SHELLS)).as_required()

# Groups of options that one function of `values` reads.
HOST_FILES: tuple[AnyOption, ...] = (ROOTFS, SHARE, NET)
PRIVILEGES: tuple[AnyOption, ...] = (USER, CAPABILITIES, MEMLOCK)
TESTS: tuple[AnyOption, ...] = (RUN, BINARY, TIMEOUT)
LOADING: tuple[AnyOption, ...] = (LOADER, PRESET, SET, MAP_SIZE, ATTACH)
EXEC: tuple[AnyOption, ...] = (
    *(KERNEL, IMAGE),
    ROOTFS.with_help(
        "host, the default: the guest sees the host's files, but can't change them. "
        "oci:debian:12: it has the files of an image. DIR: it sees the root file system in this "
        "folder. none: it has only busybox."
    ),
    *(SHARE, NET, ENV),
    *PRIVILEGES,
    COLD,
)
MARKDOWN = _text("markdown", "FILE", "The comment's text: a file with Markdown.").as_required()
COMMENT_NAME: Option[str] = Option(
    "name",
    "The name of the comment: one of the same name is replaced. Default: comparison.",
    OptionKind.VALUE,
    "comparison",
    "NAME",
)

SEVERAL_KERNELS: tuple[AnyOption, ...] = (KERNELS, AVAILABLE, JOBS)
