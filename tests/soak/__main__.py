"""`nox -s soak`: many random runs of bpfmatrix, each with a verdict that its seed implies."""

import argparse
import collections
import concurrent.futures
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from bpfmatrix.host.cache import Cache
from tests.soak import leftovers
from tests.soak.plans import ARM, KERNELS, Plan, all_categories, categories, plan_of
from tests.soak.programs import Program, result
from tests.soak.trial import Site, StoppedError, Trial
from tests.tool import REPOSITORY

KEPT = REPOSITORY / ".bpfmatrix/soak"
_GO = Path(__file__).with_name("go")
_PROGRESS_SECONDS = 30.0
# The seeds of a session's runs are its own seed times this, and the numbers after it.
_SEEDS = 1_000_000
_FREE_BYTES = 6 << 30
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parse the words of the command line."""
    parser = argparse.ArgumentParser(
        prog="nox -s soak --",
        description="Run bpfmatrix many times, each time with other programs, kernels and "
        "accidents, and compare each verdict with the one that the seed of the run implies.",
    )
    parser.add_argument("--runs", type=int, default=40, metavar="N", help="(default: 40)")
    parser.add_argument("--seed", type=int, default=1, help="of the session (default: 1)")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="(default: 4)")
    parser.add_argument(
        "--only", type=int, action="append", metavar="SEED", help="repeat this run; repeatable"
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="CATEGORY",
        choices=sorted(all_categories()),
        help="leave out all runs of this category; repeatable: %(choices)s",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiply limits of time, on a slow machine"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(os.environ.get("TMPDIR", "/var/tmp")),
        help="where the temporary folder is made (default: %(default)s)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder of each run")
    parser.add_argument("--list", action="store_true", help="print the plans, and run nothing")
    return parser.parse_args(words)


def plans(options: argparse.Namespace) -> Iterator[Plan]:
    """Yield the plans of a session."""
    if options.only:
        yield from map(plan_of, dict.fromkeys(options.only))
        return
    left_out = set(options.without)
    every = map(plan_of, itertools.count(options.seed * _SEEDS))
    yield from itertools.islice((p for p in every if not left_out & categories(p)), options.runs)


class Session:
    """All runs, their counts, and what was left behind after them."""

    def __init__(self, options: argparse.Namespace, site: Site) -> None:
        self._options = options
        self._site = site
        self._counts: collections.Counter[str] = collections.Counter()
        self._endings: collections.Counter[str] = collections.Counter()
        self._seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
        self._began, self._cpu_before = time.monotonic(), _cpu_seconds()
        self._descriptors = self._templates = 0
        self.done = 0
        self.wrong: list[int] = []
        self.left: list[str] = []

    def prepare(self) -> bool:
        """Make the cache, the Go programs and a template of each kernel; return whether all is
        well.
        """
        _say("preparing: a cache, Go programs, and a template of each kernel")
        _copy_kernels(Cache.default().root, self._site.cache)
        for arch in _ARCHITECTURES:
            _build(self._site.binaries / arch, arch)
        chosen = list(plans(self._options))
        ids = [id for id in KERNELS if any(id in plan.kernels for plan in chosen)]
        shares = any(plan.share for plan in chosen)
        firsts = [
            Trial(_first(id, share=share), self._site, f"first-{id}{'-share' * share}")
            for id in ids
            for share in ((False, True) if shares and id != ARM else (False,))
        ]
        with concurrent.futures.ThreadPoolExecutor(self._options.at_once) as pool:
            all_wrong = self._finish([pool.submit(first.run) for first in firsts])
        for first, wrong in zip(firsts, all_wrong, strict=True):
            if wrong:
                [kernel] = first.plan.kernels
                _print_wrong(f"{kernel} does not work at all", wrong, first.folder)
        self._templates = self._count_templates()
        _say(f"prepared after {time.monotonic() - self._began:.0f} s")
        return not any(all_wrong)

    def _finish(self, running: Sequence["concurrent.futures.Future[list[str]]"]) -> list[list[str]]:
        try:
            return [each.result() for each in running]
        except BaseException:
            self._site.stop.set()
            raise

    def _count_templates(self) -> int:
        return sum(1 for _ in (self._site.cache / "templates").glob("*"))

    def run(self) -> None:
        """Run all plans, some at once."""
        self._began, self._cpu_before = time.monotonic(), _cpu_seconds()
        self._descriptors = _open_descriptors()
        printed = self._began
        remaining = plans(self._options)
        running: dict[concurrent.futures.Future[list[str]], Trial] = {}
        with concurrent.futures.ThreadPoolExecutor(self._options.at_once) as pool:
            try:
                while True:
                    for plan in itertools.islice(remaining, self._options.at_once - len(running)):
                        trial = Trial(plan, self._site)
                        running[pool.submit(trial.run)] = trial
                    if not running:
                        break
                    finished, _ = concurrent.futures.wait(
                        running, 1.0, concurrent.futures.FIRST_COMPLETED
                    )
                    for each in finished:
                        self._take(running.pop(each), each)
                    if time.monotonic() - printed > _PROGRESS_SECONDS:
                        printed = time.monotonic()
                        _say(self.progress())
            except BaseException:
                # The runs end as soon as they see it, and the pool waits for them.
                self._site.stop.set()
                raise

    def _take(self, trial: Trial, finished: "concurrent.futures.Future[list[str]]") -> None:
        try:
            wrong = finished.result()
        except StoppedError:
            return
        except Exception:  # such as a result file that is no JSON; the other runs go on
            wrong = traceback.format_exc().splitlines()
        plan = trial.plan
        self.done += 1
        self._counts.update(categories(plan))
        self._seconds[plan.ending] += trial.seconds
        if trial.sent_again:
            self._counts["a signal had to be sent again"] += 1
        self._endings[plan.ending] += 1
        if wrong:
            self.wrong.append(plan.seed)
            _print_wrong(f"seed {plan.seed}: {plan}", wrong, trial.folder)

    def look_for_leftovers(self) -> None:
        """Note what is left on the host when no run is in progress."""
        site = self._site
        # This run removes what killed runs have left in the cache, as any other would.
        kernel = next(iter(self._counts.keys() & KERNELS.keys()), "6.1")
        last = Trial(_first(kernel, share=False, word="last"), site, "last")
        self.left += last.run()
        deadline = time.monotonic() + 10
        while site.children.orphans() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.left += [f"still running: {process}" for process in site.children.orphans()]
        self.left += [f"locked: {path}" for path in leftovers.held_locks(site.work)]
        self.left += [f"mounted: {line}" for line in leftovers.mounts_below(site.work)]
        self.left += [
            f"in the cache's tmp/: {p}" for p in leftovers.files_below(site.cache / "tmp")
        ]
        everything = leftovers.files_below(site.work)
        self.left += [path for path in everything if path.endswith("(a socket)")]
        if (templates := self._count_templates()) != self._templates:
            self.left.append(f"{templates} templates, which were {self._templates}")
        descriptors = _open_descriptors()
        if descriptors > self._descriptors:
            self.left.append(f"{descriptors - self._descriptors} descriptors of the session itself")

    def progress(self) -> str:
        """Return a line about what has run so far."""
        took = time.monotonic() - self._began
        cpu = (_cpu_seconds() - self._cpu_before) / max(1, self.done)
        return (
            f"{self.done} runs, {len(self.wrong)} wrong, {self.done / took:.2f} runs/s, "
            f"{cpu:.1f} s of CPU each, {took:.0f} s; "
            + ", ".join(f"{name} {n}" for name, n in sorted(self._counts.items()) if _shown(name))
        )

    def summary(self) -> str:
        """Return what has run, in all categories, and what was wrong."""
        lines = [self.progress()]
        lines += [f"  {count:5d}  {name}" for name, count in sorted(self._counts.items())]
        lines += [
            f"  ending {ending}: {self._seconds[ending] / count:.1f} s each"
            for ending, count in sorted(self._endings.items())
        ]
        if self.left:
            lines += ["left behind after all runs:", *(f"  {each}" for each in self.left)]
        if self.wrong:
            words = " ".join(f"--only {seed}" for seed in self.wrong)
            lines.append(f"wrong; to repeat them: nox -s soak -- {words}")
        return "\n".join(lines)


def _shown(category: str) -> bool:
    return not category.startswith(("prints ", "tool ", "qemu "))


def _open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _cpu_seconds() -> float:
    """Return the CPU time of all children, and theirs, that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _first(kernel: str, *, share: bool, word: str = "first") -> Plan:
    program = Program(word, "exit", (result(word, "passed"),), f"echo {word}\nexit 0")
    return Plan(-1, (kernel,), "invoke", False, share, "none", (program,))


def _copy_kernels(users: Path, own: Path) -> None:
    """Give the session a cache of its own, with the kernels of the user's cache."""
    own.mkdir()
    for name in ("kernels", "refs", "busybox", "guest-programs"):
        if (users / name).exists():
            shutil.copytree(users / name, own / name, copy_function=_link_or_copy, symlinks=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)


def _build(folder: Path, arch: str) -> None:
    folder.mkdir(parents=True)
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local"}
    env |= {"GOOS": "linux", "GOARCH": _ARCHITECTURES[arch]}
    flags = ("-ldflags=-s -w", "-trimpath")
    for words in (
        ("test", "-c", *flags, "-o", str(folder / "soak.test"), "./soak"),
        ("build", *flags, "-o", str(folder / "forge"), "./forge"),
    ):
        subprocess.run(["go", *words], cwd=_GO, env=env, check=True)


def _print_wrong(what: str, wrong: Sequence[str], folder: Path) -> None:
    _say("\n    ".join((f"WRONG {what}", *wrong, f"its folder: {folder}")))


def _say(text: str) -> None:
    print(text, flush=True)


def main(words: Sequence[str]) -> int:
    """Run the session; return the exit status."""
    options = arguments(words)
    if options.list:
        for plan in plans(options):
            _say(f"{plan.seed}: {plan}")
        return 0
    if shutil.disk_usage(options.folder).free < _FREE_BYTES:
        free = f"{options.folder} has less than {_FREE_BYTES >> 30} GiB free"
        _say(f"error: {free}. Name another one: --folder.")
        return 1
    # An exception, so that all runs are ended, and the temporary folder is removed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    leftovers.adopt_orphans()
    KEPT.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bpfmatrix-soak-", dir=options.folder))
    site = Site(
        work=work,
        kept=KEPT,
        binaries=work / "binaries",
        children=leftovers.Children(),
        stop=threading.Event(),
        scale=options.scale,
        keep=options.keep,
    )
    session, status = Session(options, site), 1
    try:
        if session.prepare():
            session.run()
            session.look_for_leftovers()
            status = 1 if session.wrong or session.left else 0
    except (KeyboardInterrupt, StoppedError):
        _say("interrupted")
        status = 130
    finally:
        site.stop.set()
        shutil.rmtree(work)
    _say(session.summary())
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
