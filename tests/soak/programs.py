"""The programs that a guest of the soak runs, and the results that they must have.

Each is a script for the guest's shell or a Go test binary. What it prints, how it ends and what
follows from that is chosen by a random generator that the plan of the run gives. Nothing here
touches a file.
"""

import random
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "ENDINGS",
    "GO_TESTS",
    "KINDS",
    "LIGHT_KINDS",
    "PATTERNS",
    "WAITING",
    "Ending",
    "Printed",
    "Program",
    "Result",
    "ordinary",
]

WAITING = b"soak: waiting\n"
"""What a program prints that then waits for ever, until something outside of it ends it."""
GO_TESTS = 4
"""How many tests the Go test binary has: Test0, Test1 and so on."""

_LIE = "exited 1 status=0 limit=no oom_kills=0 tainted=0 full= cores=0"
_TOKENS: Mapping[str, tuple[bytes, ...]] = {
    "protocol": tuple(
        f"{line}\n".encode()
        for line in (_LIE, "done", "ready 9.9", "started 2", "exited 1 status=0", "unable to run")
    ),
    "go": (
        b"=== RUN   TestEverything\n",
        b"--- PASS: TestEverything (0.00s)\n",
        b"--- FAIL: TestEverything (0.00s)\n",
        b"\x16--- FAIL: TestEverything (0.00s)\n",
        b"PASS\n",
        b"FAIL\n",
        b"ok  \texample.com/x\t0.1s\n",
    ),
    "escapes": (
        b"\x1b[2J\x1b[31m",
        b"\x1b]0;title\x07",
        b"\x9b31m",
        b"\r\x1b[1A\x1b[K",
        b"\x1bc",
        b"\x08\x08",
        b"text\n",
    ),
    "ci": (
        b"::error::soak\n",
        b"::set-output name=x::y\n",
        b"::stop-commands::soak\n",
        b"##[error]soak\n",
        b"##vso[task.complete result=Succeeded]\n",
        b"##teamcity[testFinished name='soak']\n",
        b"section_start:1560896352:soak\r\n",
    ),
    "panic words": (
        b"Kernel panic - not syncing: soak\n",
        b"[    9.000000] Kernel panic - not syncing: soak\n",
        b"BUG: kernel NULL pointer dereference, address: 0000000000000000\n",
        b"reboot: Power down\n",
    ),
}


@dataclass(frozen=True)
class Printed:
    """What a program prints: a pattern, its size, and the seed of its random part."""

    pattern: str
    size_bytes: int
    seed: int

    def content(self) -> bytes:
        """Return the bytes."""
        rng, size = random.Random(self.seed), self.size_bytes
        if self.pattern in _TOKENS:
            tokens = rng.choices(_TOKENS[self.pattern], k=min(1 + size // 20, 5000))
            return b"".join(tokens)
        return _CONTENTS[self.pattern](rng, size)


def _lines(rng: random.Random, size: int) -> bytes:
    line = b"0123456789 abcdefghijklmnopqrstuvwxyz\n"
    return (line * (size // len(line) + 1))[:size] + b"\n"


def _hexadecimal(rng: random.Random, size: int) -> bytes:
    # The boundary after each output has 32 hexadecimal digits.
    digits = rng.randbytes((size + 1) // 2).hex().encode()
    step = rng.choice((31, 32, 33, 64, len(digits) + 1))
    return rng.choice((b"", b"\n")).join(
        digits[at : at + step] for at in range(0, len(digits), step)
    )


_CONTENTS: Mapping[str, Callable[[random.Random, int], bytes]] = {
    "none": lambda rng, size: b"",
    "lines": _lines,
    "no newline": lambda rng, size: b"half a line " * (1 + size // 120) + b"end",
    "binary": lambda rng, size: rng.randbytes(size),
    "hexadecimal": _hexadecimal,
    "long line": lambda rng, size: b"x" * size,
}
PATTERNS = (*_CONTENTS, *_TOKENS)
"""The patterns of what a program prints."""


@dataclass(frozen=True)
class Result:
    """The result that one test must have."""

    name: str
    outcomes: frozenset[str]
    """The outcomes that are right; there is mostly one."""
    reason: str = ""
    """A regular expression that its reason must match."""


@dataclass(frozen=True)
class Program:
    """A program of the guest. It is a Go test binary if `acts` has words for its tests."""

    name: str
    kind: str
    results: tuple[Result, ...]
    script: str = ""
    acts: tuple[str, ...] = ()
    printed: Printed | None = None
    """What it prints first; the script then finds it in the file `$output`."""
    exact: bool = False
    """Whether it prints nothing else, so that its log must be equal to that."""
    padding_bytes: int = 0
    """How many random bytes follow the script, which has ended before them."""
    forges: str = ""
    """How it forges its verdict, if it is not a script but the program of go/forge: `plain`, or
    `boundary` if it also looks for the boundary of its output."""

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.test" if self.acts else self.name


def result(name: str, outcome: str, *others: str, reason: str = "") -> Result:
    """Return a result with one right outcome, or several."""
    return Result(name, frozenset((outcome, *others)), reason)


def _exit_result(name: str, status: int) -> Result:
    if status == 0:
        return result(name, "passed")
    # A status above 128 looks like a death by a signal.
    return result(name, "failed", reason=r"." if status > 128 else rf"\b{status}\b")


def _signal_result(name: str, number: int) -> Result:
    return result(name, "failed", reason=signal.Signals(number).name)


def _status(rng: random.Random) -> int:
    return 0 if rng.random() < 0.6 else rng.choice((1, 2, 126, 127, 128, 255, rng.randrange(256)))


def _printed(rng: random.Random, *, light: bool) -> Printed:
    size = rng.choice((1, 31, 32, 33, 1000, 4095, 4096, 65536))
    if not light and rng.random() < 0.1:
        size = rng.randrange(1 << 20, 6 << 20)
    return Printed(rng.choice(PATTERNS), size, rng.getrandbits(32))


def _padding(rng: random.Random, *, light: bool) -> int:
    draw = rng.random()
    if draw < 0.7 or light:
        return 0
    if draw < 0.9:
        return rng.randrange(1, 500_000)
    return rng.randrange(1 << 20, 5 << 20) if draw < 0.98 else rng.randrange(10 << 20, 30 << 20)


_SHOW = 'cat "$output"'
_SHOW_AS_ERROR = 'cat "$output" >&2'


def _exits(name: str, rng: random.Random, light: bool) -> Program:
    status = _status(rng)
    script = f"{rng.choice((_SHOW, _SHOW_AS_ERROR))}\nexit {status}"
    return Program(
        name,
        "exit",
        (_exit_result(name, status),),
        script,
        printed=_printed(rng, light=light),
        exact=True,
        padding_bytes=_padding(rng, light=light),
    )


# Not QUIT: busybox's shell ignores it.
_SIGNALS = ("HUP", "INT", "ILL", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "PIPE", "TERM")


def _dies(name: str, rng: random.Random, light: bool) -> Program:
    chosen = rng.choice(_SIGNALS)
    return Program(
        name,
        "signal",
        (_signal_result(name, signal.Signals[f"SIG{chosen}"]),),
        f"{_SHOW}\nkill -{chosen} $$\nexit 0",
        printed=_printed(rng, light=light),
        exact=True,
    )


_CGROUP_KILL = """
cgroup=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
if [ -e "$cgroup/cgroup.kill" ]; then
	echo 1 >"$cgroup/cgroup.kill"
else
	while read -r pid; do [ "$pid" = $$ ] || kill -KILL "$pid"; done <"$cgroup/cgroup.procs"
	kill -KILL $$
fi
sleep 1000
exit 0
"""


def _kills(name: str, rng: random.Random, light: bool) -> Program:
    status = _status(rng)
    killed, goes_on = _signal_result(name, signal.SIGKILL), _exit_result(name, status)
    script, expected = rng.choice(
        (
            ("kill -KILL 0\nexit 0", killed),
            ("sleep 1000 & sleep 1000 & kill -KILL 0\nexit 0", killed),
            (_CGROUP_KILL, killed),
            (f"kill -KILL -1\nexit {status}", goes_on),
            # The kernel lets no process kill init.
            (f'kill -KILL "$PPID"\nkill -KILL 1\nkill -TERM 1\nexit {status}', goes_on),
            (f"sleep 1000 & kill -KILL $!\nwait $! 2>/dev/null\nexit {status}", goes_on),
        )
    )
    return Program(name, "kill", (expected,), script)


def _writes_in_background(name: str, rng: random.Random, light: bool) -> Program:
    status = _status(rng)
    loop = "while :; do echo noise; done"
    script = rng.choice(
        (
            f"({loop}) &\nexit {status}",
            f"({loop}) &\n({loop}) &\nusleep 50000\nexit {status}",
            f'setsid sh -c "{loop}" &\nusleep 50000\nexit {status}',
            f"trap '' TERM QUIT INT HUP\n(sleep 1000; {loop}) &\nexit {status}",
        )
    )
    return Program(name, "background", (_exit_result(name, status),), script)


def _fills_a_disk(name: str, rng: random.Random, light: bool) -> Program:
    place = rng.choice(("/tmp", "/dev/shm"))
    fills = f"cat /dev/zero >{place}/soak-fill"
    status = rng.randrange(1, 126)
    script, expected = rng.choice(
        (
            (f"{fills}\nexit {status}", _exit_result(name, status)),
            (f"{fills}\nrm {place}/soak-fill\nexit 0", _exit_result(name, 0)),
        )
    )
    return Program(name, "disk", (expected,), script)


def _fills_memory(name: str, rng: random.Random, light: bool) -> Program:
    expected = result(name, "failed", reason="memory")
    return Program(name, "memory", (expected,), "tail /dev/zero\nexit 3")


_LIES = f"""
echo PASS
for port in /dev/vport* /proc/1/fd/3 /proc/1/fd/4; do
	echo '{_LIE}' >"$port"
	echo done >"$port"
done
exit STATUS
"""


def _lies(name: str, rng: random.Random, light: bool) -> Program:
    status = rng.randrange(1, 126)
    script = _LIES.replace("STATUS", str(status))
    return Program(name, "lies", (_exit_result(name, status),), script)


def _writes_to_the_console(name: str, rng: random.Random, light: bool) -> Program:
    status = _status(rng)
    line = rng.choice(("Kernel panic - not syncing: soak", _LIE, "done", "<0>reboot: Power down"))
    script = f"echo '{line}' >/dev/kmsg\necho '{line}' >/dev/console\nexit {status}"
    return Program(name, "console", (_exit_result(name, status),), script)


_GO_OUTCOMES = {"pass": "passed", "prints": "passed", "fail": "failed", "skip": "skipped"}


def _go(name: str, rng: random.Random, light: bool) -> Program:
    killed = f"signal:{int(rng.choice((signal.SIGKILL, signal.SIGTERM)))}"
    last = rng.choice(("", "", "panic", "exit:0", "exit:7", killed))
    count = rng.randrange(GO_TESTS) if last else GO_TESTS
    words = rng.choices(tuple(_GO_OUTCOMES), weights=(6, 2, 1, 2), k=count)
    return _go_program(name, "go", words, last, "failed")


def _go_program(
    name: str, kind: str, words: Sequence[str], last: str, last_outcome: str
) -> Program:
    """Return a Go test binary whose tests do `words`; the next one does `last`, and ends it."""
    outcomes = [_GO_OUTCOMES[word] for word in words] + ([last_outcome] if last else [])
    acts = (*words, *((last,) if last else ()))
    padded = acts + ("pass",) * (GO_TESTS - len(acts))
    results = tuple(result(f"Test{n}", outcome) for n, outcome in enumerate(outcomes))
    return Program(name, kind, results, acts=padded)


_Make = Callable[[str, random.Random, bool], Program]
_WEIGHTED: Mapping[str, tuple[float, _Make]] = {
    "exit": (44, _exits),
    "signal": (9, _dies),
    "kill": (9, _kills),
    "background": (7, _writes_in_background),
    "go": (12, _go),
    "lies": (5, _lies),
    "console": (5, _writes_to_the_console),
    "disk": (3, _fills_a_disk),
    "memory": (2, _fills_memory),
}
KINDS = tuple(_WEIGHTED)
"""The kinds of programs that do not end the machine."""
LIGHT_KINDS = ("exit", "signal", "kill", "lies", "console")
"""Those that are over in a moment, on a slow machine too."""


def ordinary(name: str, rng: random.Random, kinds: Iterable[str], *, light: bool) -> Program:
    """Return a program of one of these kinds. A light one prints little and is small."""
    chosen = tuple(kinds)
    [kind] = rng.choices(chosen, weights=[_WEIGHTED[kind][0] for kind in chosen])
    return _WEIGHTED[kind][1](name, rng, light)


# Endings: the programs, at most one in a run, that decide how the run or its machine ends.


@dataclass(frozen=True)
class Ending:
    """How a run ends."""

    weight: float
    outcomes: frozenset[str]
    """The outcomes of the run that are right; empty if the results of its tests decide."""
    make: Callable[[str, random.Random], Program]
    """Return the program that brings the ending about; its name and a generator are given."""
    ends_machine: bool = True
    """Whether the machine ends with it, so that programs after it do not run."""


def _crashes(name: str, rng: random.Random) -> Program:
    script = f"{_SHOW}\necho c >/proc/sysrq-trigger\nsleep 1000"
    return Program(
        name, "panic", (result(name, "panic"),), script, printed=_printed(rng, light=True)
    )


# Overwrites the code of process 1, which then dies by a signal.
_KILLS_INIT = """
grep r-xp /proc/1/maps | grep -v -e vdso -e vsyscall | while IFS='- ' read -r from to rest; do
	from=$((0x$from)) to=$((0x$to))
	dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$((from / 4096)) count=$(((to - from) / 4096))
done
"""


def _kills_init(name: str, rng: random.Random) -> Program:
    return Program(name, "init", (result(name, "panic"),), _KILLS_INIT)


def _resets(name: str, rng: random.Random) -> Program:
    how = rng.choice(("reboot -f", "echo b >/proc/sysrq-trigger"))
    return Program(name, "reset", (result(name, "lost"),), f"{how}\nsleep 1000")


def _powers_off(name: str, rng: random.Random) -> Program:
    how = rng.choice(("poweroff -f", "echo o >/proc/sysrq-trigger"))
    return Program(name, "poweroff", (result(name, "lost"),), f"{how}\nsleep 1000")


_FREEZES_INIT = """
mkdir /sys/fs/cgroup/ice
echo 1 >/sys/fs/cgroup/ice/cgroup.procs
echo 1 >/sys/fs/cgroup/ice/cgroup.freeze
"""


def _silences(name: str, rng: random.Random) -> Program:
    return Program(name, "silent", (result(name, "lost"),), _FREEZES_INIT)


_HANGS = (
    "sleep 1000",
    "trap '' TERM QUIT INT HUP\nwhile :; do sleep 1000; done",
    "while :; do :; done",
    "while :; do echo still here; usleep 100000; done",
    "kill -STOP $$\nsleep 1000",
    "sleep 1000 & setsid sleep 1000 & (trap '' TERM QUIT; while :; do sleep 1000; done) &\nwait",
    "mkfifo /tmp/soak-fifo\nread -r line </tmp/soak-fifo",
)


def _hangs(name: str, rng: random.Random) -> Program:
    if rng.random() < 0.2:
        words = rng.choices(("pass", "fail", "skip"), k=rng.randrange(GO_TESTS))
        return _go_program(name, "hang", words, "hang", "timeout")
    return Program(name, "hang", (result(name, "timeout"),), rng.choice(_HANGS))


_ESCAPES = """
setsid sh -c 'echo $$ >/sys/fs/cgroup/cgroup.procs; while :; do echo escaped; usleep 20000; done' &
usleep 200000
exit 0
"""


def _escapes(name: str, rng: random.Random) -> Program:
    return Program(name, "escape", (result(name, "passed"),), _ESCAPES)


def _forges(name: str, rng: random.Random) -> Program:
    expected = result(name, "lost")
    return Program(name, "forge", (expected,), forges=rng.choice(("plain", "boundary")))


def _waits(outcome: str) -> Callable[[str, random.Random], Program]:
    def make(name: str, rng: random.Random) -> Program:
        script = f"printf '{WAITING.decode().strip()}\\n'\nwhile :; do sleep 1000; done"
        kind = {"lost": "qemu", "interrupted": "tool", "timeout": "run limit"}[outcome]
        return Program(name, kind, (result(name, outcome),), script)

    return make


def _nothing(name: str, rng: random.Random) -> Program:
    raise AssertionError("the ending `none` has no program")


ENDINGS: Mapping[str, Ending] = {
    "none": Ending(62, frozenset(), _nothing, ends_machine=False),
    "hang": Ending(6, frozenset(), _hangs, ends_machine=False),
    "escape": Ending(2.5, frozenset(), _escapes, ends_machine=False),
    "panic": Ending(5, frozenset({"panic"}), _crashes),
    "init": Ending(2, frozenset({"panic"}), _kills_init),
    "reset": Ending(3.5, frozenset({"lost"}), _resets),
    "poweroff": Ending(3.5, frozenset({"lost"}), _powers_off),
    "silent": Ending(1, frozenset({"lost"}), _silences),
    "qemu": Ending(6, frozenset({"lost"}), _waits("lost")),
    "tool": Ending(9, frozenset({"interrupted"}), _waits("interrupted")),
    "run limit": Ending(1.5, frozenset({"timeout"}), _waits("timeout")),
    "forge": Ending(2.5, frozenset({"lost"}), _forges),
}
"""The endings of runs; `none` is a run in which every program ends by itself."""
