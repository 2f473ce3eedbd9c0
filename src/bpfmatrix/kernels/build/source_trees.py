"""Source trees of kernels: which one a build means, and how it gets into `ci-kernels/_build`.

`locate` finds the release that a build's source means, and where it comes from: a server with
kernel.org's layout, Debian's package `linux-source-SERIES`, or a folder of the user.
`Origin.provide` returns the source tree, which appears by one rename when it is complete. A folder
of the user is used where it is, and is never written to.
"""

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.config.sources import BuildSource
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError, UsageError
from bpfmatrix.host import versions
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256, sha256_of
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.build import kernelorg
from bpfmatrix.kernels.formats import deb
from bpfmatrix.kernels.image import Package

if TYPE_CHECKING:
    from bpfmatrix.kernels.sources.apt_archive import Archive
    from bpfmatrix.kernels.sources.apt_packages import Deb

__all__ = ["Debian", "Origin", "Tree", "at_hand", "check", "locate", "releases", "version_of"]

_STANZAS = re.compile(r"Package: linux-source-[^\n]*\n")
# Where linux-source-SERIES is looked for; the first suite that has it is taken.
_SUITES = ("bookworm-security", "bullseye-security", "trixie-security", "trixie-backports")
# With one of these in the source tree, its Makefile refuses to build in another folder (the rule
# `outputmakefile`).
_UNCLEAN = (
    *(".config", "include/config"),
    *(f"arch/{known.kernel_folder}/include/generated" for known in ARCHITECTURES.values()),
)
_MAKEFILE = re.compile(
    r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(.*)$", re.MULTILINE
)


@dataclass(frozen=True)
class Tree:
    """A complete source tree."""

    path: Path
    version: str
    """The version in its Makefile: `6.1.192`, `6.18.0-rc3`."""


@dataclass(frozen=True)
class Origin:
    """Where one release of the sources comes from."""

    version: str
    source: str
    """For people: `kernel.org, signature not checked`, `apt bookworm-security`."""
    package: Package
    """Name, version and checksum of the file that the source tree is unpacked from."""

    def folder(self, build: Path) -> Path:
        """Return the folder of the source tree; `build` is `ci-kernels/_build`."""
        return build / f"linux-{self.version}"

    def objects_name(self, build: Path) -> str:
        """Return the name of the folder that make works in, without the architecture."""
        return self.version

    def provide(self, build: Path, cache: Cache, progress: Progress) -> Tree:
        """Return the source tree, fetched and unpacked. The caller holds the build's lock."""
        folder, note = self.folder(build), build / f"linux-{self.version}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = Package(**json.loads(note.read_bytes())["package"])
            if folder.is_dir() and known == self.package:
                return Tree(folder, version_of(folder))
        _sweep(build)
        with tempfile.TemporaryDirectory(dir=build, prefix=".unpacking-") as made:
            new = Path(made)
            (new / "tree").mkdir()
            self._unpack(new / "tree", cache, progress)
            found = version_of(new / "tree")
            note.unlink(missing_ok=True)
            if folder.exists():
                folder.rename(new / "replaced")
            (new / "tree").rename(folder)
        about = {"package": asdict(self.package), "source": self.source}
        note.write_text(json.dumps(about, indent=1))
        return Tree(folder, found)

    def _unpack(self, tree: Path, cache: Cache, progress: Progress) -> None:
        raise UnreachableError(f"the sources {self.package.name} are no longer there")


@dataclass(frozen=True)
class _Release(Origin):
    """A tarball in kernel.org's layout."""

    url: str

    def _unpack(self, tree: Path, cache: Cache, progress: Progress) -> None:
        tarball = cache.root / "sources" / self.package.name
        # The download of another server's release may have the same name.
        with cache.lock(f"source-{self.package.name}"):
            # A tarball that exists is complete: its unpacking was interrupted.
            if not tarball.exists() or sha256_of(tarball) != self.package.sha256:
                kernelorg.fetch_tarball(self.url, tarball, self.package.sha256, progress)
            progress(f"unpacking {tarball.name}")
            try:
                _unpack(
                    ["tar", "--extract", "--xz", "--file", tarball, "--strip-components=1"], tree
                )
            except BpfmatrixError:
                tarball.unlink()
                raise
            tarball.unlink()


@dataclass(frozen=True)
class Debian(Origin):
    """Debian's package of the sources, which contains a tarball."""

    archive: "Archive"
    deb: "Deb"

    def fetch_tarball(self, target: Path, cache: Cache, progress: Progress) -> None:
        """Fetch the package, and extract the tarball."""
        with cache.staging() as staging:
            with self.archive.locked():
                (file,) = self.archive.download([self.deb], staging, progress)
            member = f"usr/src/{self.deb.name}.tar.xz"
            if not deb.extract_file(file, member.__eq__, target):
                raise KernelUnavailableError(f"{file.name} has no {member}")

    def _unpack(self, tree: Path, cache: Cache, progress: Progress) -> None:
        tarball = tree.parent / "tarball"
        self.fetch_tarball(tarball, cache, progress)
        progress(f"unpacking {self.deb.name} {self.deb.version}")
        _unpack(["tar", "--extract", "--xz", "--file", tarball, "--strip-components=1"], tree)


@dataclass(frozen=True)
class _Folder(Origin):
    """A source tree of the user."""

    path: Path
    name: str = ""
    """What the build is called, if that is not a version."""

    def folder(self, build: Path) -> Path:
        """See Origin."""
        return self.path

    def objects_name(self, build: Path) -> str:
        """See Origin. A tree has its own, and with a name it is the same for all of its commits."""
        own = "" if self.path.parent == build else "-" + sha256(str(self.path))[:8]
        return f"{self.name or self.version}{own}"

    def provide(self, build: Path, cache: Cache, progress: Progress) -> Tree:
        """See Origin."""
        return Tree(self.path, self.version)


def locate(source: BuildSource, arch: str, root: Path, cache: Cache, progress: Progress) -> Origin:
    """Find the release that a build's source means; `root` is the folder of kernels.yaml.

    For kernel.org and apt, this uses the network. KernelUnavailableError if there is no such
    release.
    """
    if source.origin == "kernel.org":
        keyring = root / source.keyring if source.keyring else None
        found = kernelorg.resolve(source.url, source.version, keyring, source.sha256)
        name = found.url.rsplit("/", 1)[-1]
        said = f"kernel.org, {found.checked}"
        return _Release(
            found.version, said, Package(name, found.version, found.sha256), url=found.url
        )
    if source.origin == "apt":
        return _debian(source, arch, cache, progress)
    return _local(root / Path(source.origin).expanduser(), source.version)


def check(source: BuildSource, arch: str, root: Path, cache: Cache) -> None:
    """Find out, with one small request, whether the sources can be had; the errors of `locate`."""
    if source.origin == "apt":
        from bpfmatrix.kernels.sources.apt_archive import Archive  # noqa: PLC0415

        Archive.of_host(cache, source.suite or _SUITES[0], arch).check()
    elif at_hand(source, root / "ci-kernels/_build") is None:
        locate(source, arch, root, cache, silent)


def releases(
    source: BuildSource, arch: str, root: Path, cache: Cache, progress: Progress
) -> list[str]:
    """Return the releases that a source's version could name in place of its own.

    Those of kernel.org are all of the same major version, those of Debian all of the same series. A
    folder has one source tree.
    """
    if source.origin == "kernel.org":
        keyring = root / source.keyring if source.keyring else None
        return kernelorg.releases(source.url, source.version, keyring)
    series = versions.series(source.version)
    if source.origin != "apt" or not series:
        return []
    suites, problems = (source.suite,) if source.suite else _SUITES, list[KernelUnavailableError]()
    found = [
        deb.upstream_version
        for _, _, debs in _packages_of(suites, arch, cache, progress, problems)
        for deb in debs
        if deb.name == f"linux-source-{series}"
    ]
    if problems and not found:
        raise problems[0]
    return list(dict.fromkeys(found))


def at_hand(source: BuildSource, build: Path) -> Origin | None:
    """Return the newest release in `ci-kernels/_build` that a source means, without a network."""
    found: list[Origin] = []
    for note in build.glob("linux-*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            data = json.loads(note.read_bytes())
            package = Package(**data["package"])
            version = note.name.removeprefix("linux-").removesuffix(".json")
            debian = package.name.startswith("linux-source-")
            fits = f"{version}.".startswith(f"{source.version}.")
            same = source.sha256 in (None, package.sha256)
            if fits and same and debian == (source.origin == "apt"):
                found.append(Origin(version, data["source"], package))
    return max(found, key=lambda each: versions.all_numbers(each.version), default=None)


def version_of(tree: Path) -> str:
    """Return the version in a source tree's Makefile; BpfmatrixError if it is no kernel's tree."""
    try:
        text = (tree / "Makefile").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    parts = dict(_MAKEFILE.findall(text))
    if not {"VERSION", "PATCHLEVEL"} <= parts.keys() or not (tree / "Kconfig").exists():
        raise BpfmatrixError(
            f"{tree} is not a source tree of Linux",
            "Expected: a folder with the Makefile and the Kconfig of a kernel.",
        )
    numbers = (parts["VERSION"], parts["PATCHLEVEL"], parts.get("SUBLEVEL") or "0")
    extra = parts.get("EXTRAVERSION", "").strip()
    return f"{'.'.join(str(part).strip() for part in numbers)}{extra}"


def _debian(source: BuildSource, arch: str, cache: Cache, progress: Progress) -> Origin:
    series = versions.series(source.version)
    if not series:
        raise UsageError(
            f"Debian has no sources of a kernel {source.version!r}",
            "Expected: a series such as 6.1, or a release such as 6.1.192.",
        )
    problems: list[KernelUnavailableError] = []
    seen: list[str] = []
    for suite, archive, debs in _packages_of(
        (source.suite,) if source.suite else _SUITES, arch, cache, progress, problems
    ):
        there = [deb for deb in debs if deb.name == f"linux-source-{series}"]
        seen += [f"{deb.upstream_version} ({suite})" for deb in there]
        wanted = [d for d in there if source.version in (series, d.upstream_version)]
        if wanted:
            from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

            newest = max(wanted, key=lambda deb: Version(deb.version))
            package = Package(newest.name, newest.version, newest.sha256)
            said = f"{archive.vendor()} sources, apt {suite}"
            return Debian(newest.upstream_version, said, package, archive=archive, deb=newest)
    if problems and not seen:
        raise problems[0]
    raise KernelUnavailableError(
        f"no suite of Debian that was looked at has the sources of {source.version}",
        f"There are {', '.join(seen)}."
        if seen
        else f"Name the suite that has linux-source-{series}, or build it from kernel.org.",
    )


def _packages_of(
    suites: tuple[str, ...],
    arch: str,
    cache: Cache,
    progress: Progress,
    problems: list[KernelUnavailableError],
) -> Iterator[tuple[str, "Archive", "list[Deb]"]]:
    """Give the packages of each suite; add the error for one that can't be had to `problems`."""
    from bpfmatrix.kernels.sources.apt_archive import Archive  # noqa: PLC0415 - off the start-up path

    for suite in suites:
        try:
            archive = Archive.of_host(cache, suite, arch)
            with archive.locked():
                archive.update(progress)
                debs = archive.debs(_STANZAS)
        except KernelUnavailableError as error:
            problems.append(error)
        else:
            yield suite, archive, debs


def _local(path: Path, version: str) -> Origin:
    path = path.resolve()
    found = version_of(path)
    if re.match(r"\d", version) and not f"{found}.".startswith((f"{version}.", f"{version}-")):
        raise UsageError(
            f"the tree {path} is of {found}, not of {version}",
            "Name the version that it has, or another tree.",
        )
    if unclean := [name for name in _UNCLEAN if (path / name).exists()]:
        raise UsageError(
            f"the tree {path} was built in ({unclean[0]} is there), and make refuses such a tree",
            f"Clean it (make -C {path} mrproper), or name a fresh one: "
            f"git -C {path} worktree add ../linux-clean",
        )
    described = _git_describe(path)
    said = f"git tree {path}" if described else f"folder {path}"
    name = "" if re.match(r"\d", version) else version
    package = Package(path.name, described or found, "")
    return _Folder(found, said, package, path=path, name=name)


def _git_describe(tree: Path) -> str:
    if not (tree / ".git").exists() or shutil.which("git") is None:
        return ""
    done = subprocess.run(
        ["git", "-C", tree, "describe", "--always", "--dirty", "--abbrev=12"],
        # Without this, git would write to the tree: it refreshes the index.
        env={"GIT_OPTIONAL_LOCKS": "0", "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def _unpack(command: list[str | Path], folder: Path, output: Path | None = None) -> None:
    """Run a program that unpacks, in a folder, with its output in the file `output`."""
    with contextlib.ExitStack() as stack:
        stdout = stack.enter_context(output.open("wb")) if output else subprocess.DEVNULL
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode:
        first = next(iter(done.stderr.splitlines()), "no reason was given")
        full = "No space left" in done.stderr
        raise BpfmatrixError(
            f"the sources can't be unpacked: {first}",
            "Free some space." if full else "What was fetched may be damaged; try again.",
        )


def _sweep(build: Path) -> None:
    """Remove incomplete source trees that killed processes left."""
    # Only those that are a day old: another process may be unpacking another version.
    for stale in build.glob(".unpacking-*"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > 86400:
                shutil.rmtree(stale)
