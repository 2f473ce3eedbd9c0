"""The words behind `nox -s kernel-6.1 --`, and how an error becomes an exit status.

nox sessions parse their words here; invoke has its own parser and only shares the rest.
"""

import argparse
import contextlib
import dataclasses
import fnmatch
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.config.value_types import parse_duration
from bpfmatrix.errors import BpfmatrixError, UsageError, suggestion
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.virtiofs.shares import HostFiles

__all__ = ["complain", "duration", "kernel_ids", "options", "parse", "reported", "with_available"]

NETWORKS = ("user", "none")


def parse(session: str, words: Sequence[str]) -> argparse.Namespace:
    """Read the words of a session; argparse says what is wrong with them, and exits with 2."""
    parser = argparse.ArgumentParser(prog=f"nox -s {session} --")
    parser.add_argument("--run", metavar="REGEX", help="run only the tests that match")
    parser.add_argument(
        "--binary", metavar="PATH", action="append", default=[], help="run this executable instead"
    )
    parser.add_argument("--timeout", metavar="DURATION", help="limit of each executable: 30s, 2m")
    if session in ("matrix", "pre-push"):
        parser.add_argument("--kernels", metavar="IDS", help='such as 5.10,6.1 or "6.*"')
        parser.add_argument(
            "--available", action="store_true", help="also all series that the apt suites have now"
        )
        parser.add_argument("--jobs", metavar="N", type=int, help="machines at once")
        parser.add_argument(
            "--cached", action="store_true", help="take results that are still true"
        )
        parser.add_argument("--fresh", action="store_true", help="run everything again")
    parser.add_argument(
        "--rootfs", metavar="host|DIR", help="let the tests see the host's files, or those of DIR"
    )
    parser.add_argument(
        "--share", metavar="DIR[:rw]", action="append", default=[], help="a folder of the host"
    )
    parser.add_argument("--net", choices=NETWORKS, help="user: let the tests reach the network")
    parser.add_argument(
        "--core", action="store_true", help="keep the core file of a test that dies by a signal"
    )
    parser.add_argument("--cold", action="store_true", help="boot, even if there is a template")
    parser.add_argument("arguments", nargs="*", help="arguments of the executables, behind --")
    return parser.parse_args(words)


def options(
    run: str | None,
    binary: Sequence[str],
    timeout: str | None,
    arguments: Sequence[str],
    cold: bool = False,
    cached: bool = False,
    files: HostFiles | None = None,
    net: str | None = None,
    core: bool = False,
) -> RunOptions:
    """Check what was typed; UsageError names the option."""
    seconds = None if timeout is None else duration("--timeout", timeout)
    paths = tuple(Path(name) for name in binary)
    for path in paths:
        if not path.is_file():
            raise UsageError(f"--binary {path}: no such file")
    if net is not None and net not in NETWORKS:
        raise UsageError(f"--net {net}: expected one of {', '.join(NETWORKS)}")
    given = tuple(arguments)
    return RunOptions(
        cold=cold,
        files=files or HostFiles(),
        network=net == "user",
        core=core,
        run=run,
        binaries=paths,
        test_seconds=seconds,
        arguments=given,
        cached=cached,
    )


def duration(option: str, text: str) -> float:
    """Return a duration in seconds; UsageError names the option."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from None


def kernel_ids(
    config: Config, patterns: str | None, default: Sequence[str] | None = None
) -> list[str]:
    """Return the ids that a list such as `5.10,6.*` names; where it is None, the default ones.

    The default's default is the matrix.
    """
    if patterns is None:
        return config.matrix_ids if default is None else list(default)
    found: dict[str, None] = {}
    for pattern in patterns.split(","):
        matching = fnmatch.filter(config.kernels, pattern.strip())
        if not matching:
            hint = suggestion(pattern, config.kernels)
            raise UsageError(
                f"--kernels {pattern}: no such kernel in kernels.yaml{hint}",
                f"It has: {', '.join(config.kernels)}.",
            )
        found.update(dict.fromkeys(matching))
    return list(found)


def with_available(project: Project, patterns: str | None) -> tuple[Project, list[str]]:
    """Return the project with an entry for each series of its apt suites, and their ids.

    Patterns with two dots, such as `6.1.*`, name single releases, which are added as well; series
    of another architecture are where a pattern has a `-`, as `*-arm64`. The ids are those that run
    where no patterns are given. Says what is left out, and why.
    """
    from bpfmatrix.kernels.series import available  # noqa: PLC0415 - off the start-up path

    found = available(project.config, project.cache)
    parts = [part.strip() for part in patterns.split(",")] if patterns is not None else []
    # So that `7.*` does not mean each series twice, for the sake of one arm64 entry.
    elsewhere = any("-" in re.sub(r"\[.*?\]", "", part) for part in parts)
    for gone in found.left_out:
        own = gone.arch == project.config.defaults.arch
        asked = patterns is None or any(fnmatch.fnmatch(gone.id, part) for part in parts)
        if asked and (own or elsewhere):
            print(gone.why, file=sys.stderr)
    single = [part for part in parts if part.count(".") > 1]
    releases = {
        id: entry
        for id, entry in found.releases.items()
        if any(fnmatch.fnmatch(id, part) for part in single)
    }
    series = {
        id: entry
        for id, entry in found.config.kernels.items()
        if elsewhere or id in project.config.kernels or id in found.ids
    }
    config = found.config.model_copy(update={"kernels": {**releases, **series}})
    return dataclasses.replace(project, config=config), list(found.ids)


def complain(error: BpfmatrixError) -> None:
    """Print an error as a person should see it."""
    print(f"error: {error.what}", file=sys.stderr)
    if error.advice:
        print(f"       {error.advice}", file=sys.stderr)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn an error that a user can mend into its sentences and its exit status."""
    try:
        yield
    except BpfmatrixError as error:
        complain(error)
        raise SystemExit(error.exit_status) from None
