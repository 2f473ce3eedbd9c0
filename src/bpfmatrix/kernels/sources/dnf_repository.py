"""A repository of RPM packages, as a private dnf sees it.

Each repository, for each key and architecture, has private folders in the cache: settings,
metadata, a keyring, and an empty rpm database. dnf checks the signature of the metadata and every
checksum. `dnf download` does not check the packages' own signatures, so rpmkeys does, with that
keyring.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import DnfSource
from bpfmatrix.config.value_types import is_url
from bpfmatrix.errors import (
    BpfmatrixError,
    KernelUnavailableError,
    ToolMissingError,
    UnreachableError,
)
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256, sha256_of
from bpfmatrix.host.documentation import page
from bpfmatrix.host.process import output
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.sources import package_files
from bpfmatrix.kernels.sources.apt_packages import nearest
from bpfmatrix.kernels.sources.package_manager import Failure, explained, read_log, run_logged

__all__ = ["Repository", "Rpm"]

_NEEDED = {"dnf": "dnf", "rpmkeys": "rpm", "rpm2archive": "rpm"}
# The folders in which rpm keeps its database, and the file names of its three formats there.
_DATABASES = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
_DATABASE_FILES = ("rpmdb.sqlite", "Packages.db", "Packages")
_FIELDS = (
    "name",
    "epoch",
    "version",
    "release",
    "arch",
    "sourcerpm",
    "downloadsize",
    "installsize",
)
# No field contains the separator. The newline is for dnf 5; dnf 4 adds one of its own.
_FORMAT = "|".join(f"%{{{field}}}" for field in _FIELDS) + "\\n"


@dataclass(frozen=True)
class Rpm:
    """One package of a repository."""

    name: str
    epoch: str
    build: str
    """Version and release: `5.14.0-427.el9`."""
    arch: str
    source: str
    """The source package, which all packages of one build have in common."""
    size_bytes: int
    installed_bytes: int

    @property
    def version(self) -> str:
        """The version as rpm compares it: with the epoch, if it has one."""
        return self.build if self.epoch == "0" else f"{self.epoch}:{self.build}"

    @property
    def spec(self) -> str:
        """The name by which dnf finds exactly this package."""
        return f"{self.name}-{self.epoch}:{self.build}.{self.arch}"


@dataclass(frozen=True)
class Repository:
    """One repository, for one architecture."""

    cache: Cache
    source: DnfSource
    key: str
    """The path or the URL of the keys."""
    arch: str

    @classmethod
    def of(cls, cache: Cache, kernel: KernelConfig, source: DnfSource) -> "Repository":
        """Return the repository of a kernel.

        ToolMissingError if dnf or rpm is missing, KernelUnavailableError if the key is.
        """
        for tool, package in _NEEDED.items():
            if shutil.which(tool) is None:
                raise ToolMissingError(
                    f"{tool} is not installed, and kernels from dnf are fetched by it",
                    f"Install the packages dnf, dnf-plugins-core and rpm ({package} has {tool}).",
                )
        key = source.key
        if not is_url(key):
            path = kernel.root / Path(key).expanduser()
            if not path.is_file():
                raise KernelUnavailableError(
                    f"{path}: no such file",
                    f"kernels.{kernel.id}.source.dnf.key names it: the keys of the repository, "
                    f"as its vendor publishes them ({page('vendor-kernels.md')}).",
                )
            key = str(path)
        return cls(cache, source, key, kernel.arch)

    @property
    def folder(self) -> Path:
        """The folder of this dnf: its settings, its metadata, its keys and its log."""
        key = self.key if is_url(self.key) else sha256_of(Path(self.key))
        identity = f"{self.source.repository} {key} {self.source.signed_metadata} {self.arch}"
        digest = sha256(identity)
        host = re.sub(r"[^\w.-]", "_", self.source.repository.split("/")[2]) or "local"
        return self.cache.root / "dnf" / f"{host}-{self.arch}-{digest[:8]}"

    @property
    def log(self) -> Path:
        """The output of the last dnf command."""
        return self.folder / "log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock on the metadata, so that no other process changes it."""
        with self.cache.lock(f"dnf-{self.folder.name}"):
            yield

    def update(self, progress: Progress = silent) -> None:
        """Fetch the metadata, if it changed, and check it. The caller holds the lock."""
        progress(f"{self.source.repository}: looking for kernels")
        self._write_settings(progress)
        if self._run("makecache", "--refresh") != 0:
            raise self._error()
        self._refuse_older()

    def newest(self, wanted: str) -> Rpm:
        """Return the newest package that a pattern matches, by rpm's order of versions."""
        found = self._query(wanted, options=["--latest-limit=1"])
        if not found:
            raise self._no_package(wanted)
        if len(found) > 1:
            names = ", ".join(rpm.name for rpm in found[:4])
            raise KernelUnavailableError(
                f"{wanted} matches several packages of {self.source.repository}: {names}",
                "Name one of them in kernels.yaml.",
            )
        return found[0]

    def builds(self, wanted: str) -> list[Rpm]:
        """Return the packages of every build of a name, or of the name in a pattern."""
        name = _name_in(wanted)
        return [rpm for rpm in self._query(name) if rpm.name == name and rpm.arch == self.arch]

    def resolve(self, wanted: str) -> tuple[Rpm, ...]:
        """Return the newest package that a pattern matches, and further packages of its build.

        These are the packages that it needs, the one with the modules that a machine needs, and
        those of `extra_packages`.
        """
        first = self.newest(wanted)
        build = {rpm.name: rpm for rpm in self._query(f"*-{first.build}.{self.arch}")}
        build = {name: rpm for name, rpm in build.items() if rpm.source == first.source}
        result, pending = {first.name: first}, [first]
        while pending:
            specs = [rpm.spec for rpm in pending]
            # Only packages of its own build can have files of the kernel.
            needed = {rpm.name for rpm in self._query(*specs, options=["--requires", "--resolve"])}
            pending = [build[name] for name in sorted((needed & build.keys()) - result.keys())]
            result.update({rpm.name: rpm for rpm in pending})
        for name in (*_with_modules(first.name, build), *self.source.extra_packages):
            if name not in build:
                raise KernelUnavailableError(
                    f"{self.source.repository} has no {name} of the build {first.version}",
                    f"The build has {', '.join(nearest(name, build))}.",
                )
            result.setdefault(name, build[name])
        return tuple(result.values())

    def again(self, names: Sequence[tuple[str, str]]) -> tuple[Rpm, ...]:
        """Return exactly these packages (name, version), or nothing if one of them is gone."""
        found = []
        for name, version in names:
            rpms = self._query(f"{name}-{version}.{self.arch}")
            found += [rpm for rpm in rpms if (rpm.name, rpm.version) == (name, version)][:1]
        return tuple(found) if len(found) == len(names) else ()

    def download(
        self, rpms: Sequence[Rpm], folder: Path, progress: Progress = silent
    ) -> list[Path]:
        """Download packages into an empty folder, and check their signatures."""
        total = sum(rpm.size_bytes for rpm in rpms)
        text = f"{rpms[0].name} {rpms[0].version}: fetching {total / 1e6:.0f} MB"

        def show() -> None:
            there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            progress(text, min(there / total, 1.0) if total else None)

        specs = [rpm.spec for rpm in rpms]
        if self._run("download", "--destdir", str(folder), "--", *specs, show=show) != 0:
            raise self._error()
        found = {}
        for path in folder.glob("*.rpm"):
            self._check_signature(path)
            described, _ = package_files.describe(path)
            found[described.name, described.version] = path
        try:
            return [found[rpm.name, rpm.version] for rpm in rpms]
        except KeyError:
            raise BpfmatrixError(
                f"{self.source.repository}: dnf fetched other packages than its metadata names"
            ) from None

    def _check_signature(self, path: Path) -> None:
        # Without the level, rpmkeys accepts a package without any signature.
        strict = ["--define", "_pkgverify_level all", "--define", "_pkgverify_flags 0x0"]
        done = subprocess.run(
            ["rpmkeys", "--dbpath", self.folder / "keys", *strict, "--checksig", "--", path],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not done.stdout.rstrip().endswith("digests signatures OK"):
            raise KernelUnavailableError(
                f"the package {path.name} is not signed, or by no key of {self.key}",
                f"rpmkeys said: {(done.stdout + done.stderr).strip()[-200:]}",
            )

    def _query(self, *names: str, options: Sequence[str] = ()) -> list[Rpm]:
        if not (self.folder / "dnf.conf").exists():
            return []
        # From what `update` fetched: without any network.
        command = self._command("repoquery", "--cacheonly", "--quiet", "--queryformat", _FORMAT)
        command += ["--arch", f"{self.arch},noarch", *options, "--", *names]
        failure = f"{self.source.repository}: dnf repoquery failed"
        return _parse(output(command, failure, env=self._environment()))

    def _no_package(self, wanted: str) -> KernelUnavailableError:
        name = _name_in(wanted)
        same = self._query(name, options=["--latest-limit=4"])
        if same:
            near = [f"{rpm.name} {rpm.version}" for rpm in same]
        else:
            near = nearest(name, {rpm.name for rpm in self._query("kernel*")})
        return KernelUnavailableError(
            f"{self.source.repository} has no package {wanted}",
            f"It has {', '.join(near)}." if near else "It has no kernel packages at all.",
        )

    def _refuse_older(self) -> None:
        """Refuse metadata that is older than what was seen before: an attacker may replay it.

        The signature of old metadata stays valid: there is no counterpart of apt's Valid-Until.
        """
        found = (self.folder / "root").rglob("kernels-*/repodata/repomd.xml")
        text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in found)
        made = max((float(at) for at in re.findall(r"<timestamp>([\d.]+)<", text)), default=0.0)
        seen = self.folder / "newest"
        before = float(seen.read_text()) if seen.exists() else 0.0
        if made < before:
            raise KernelUnavailableError(
                f"the metadata of {self.source.repository} is older than what it had before",
                "A mirror may lag behind: try again later, or name another one. If the vendor "
                f"really went back, remove {self.folder}.",
            )
        seen.write_text(f"{made}")

    def _run(self, *arguments: str, show: Callable[[], None] = lambda: None) -> int:
        return run_logged(self._command(*arguments), self.log, self._environment(), show=show)

    def _command(self, *arguments: str) -> list[str]:
        settings = ["--config", str(self.folder / "dnf.conf"), *_release_of_host()]
        return ["dnf", *settings, "--disableplugin=*", "--enableplugin=download", *arguments]

    def _environment(self) -> dict[str, str]:
        # On Debian, rpm has its database in the home folder.
        return {**os.environ, "HOME": str(self.folder), "LC_ALL": "C"}

    def _error(self) -> BpfmatrixError:
        log = read_log(self.log)
        return explained_log(log, self.source.repository, self.key, self.log)

    def _write_settings(self, progress: Progress) -> None:
        here = self.folder
        for name in ("repos", "vars", "root", "keys"):
            (here / name).mkdir(parents=True, exist_ok=True)
        self._import_key(progress)
        (here / "dnf.conf").write_text(
            "[main]\n"
            + "".join(
                f"{key}={here}/{name}\n"
                for key, name in (
                    ("installroot", "root"),
                    ("reposdir", "repos"),
                    ("varsdir", "vars"),
                    ("pluginconfpath", "vars"),
                    # dnf takes these as relative to installroot.
                    ("cachedir", "cache"),
                    ("persistdir", "persist"),
                    ("logdir", "logs"),
                )
            )
            + f"arch={self.arch}\nbasearch={self.arch}\nignorearch=1\ngpgcheck=1\nassumeyes=1\n"
            "retries=2\ntimeout=30\n"
        )
        where = "mirrorlist" if self.source.mirrorlist else "baseurl"
        (here / "repos/kernels.repo").write_text(
            f"[kernels]\nname=kernels\n{where}={self.source.repository}\nenabled=1\ngpgcheck=1\n"
            f"repo_gpgcheck={int(self.source.signed_metadata)}\ngpgkey=file://{here}/key.asc\n"
            "skip_if_unavailable=0\n"
        )

    def _import_key(self, progress: Progress) -> None:
        """Create the private keyring, unless it exists: `folder` is of one key."""
        own = self.folder / "key.asc"
        if own.exists():
            return
        with self.cache.staging() as staging:
            new = staging / "key.asc"
            if is_url(self.key):
                from bpfmatrix.host import download  # noqa: PLC0415 - off the start-up path

                download.fetch(self.key, new, progress=download.shown_by(progress, "the key"))
            else:
                shutil.copyfile(self.key, new)
            done = subprocess.run(
                ["rpmkeys", "--dbpath", self.folder / "keys", "--import", "--", new],
                env=self._environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise KernelUnavailableError(
                    f"{self.key} has no key that rpm can read",
                    "Expected: an armored public key: -----BEGIN PGP PUBLIC KEY BLOCK-----.",
                )
            new.replace(own)


def _name_in(wanted: str) -> str:
    """Return the name in a pattern of name and version: `kernel-core` of `kernel-core-5.14.*`."""
    return re.split(r"-(?=[\d*?\[])", wanted)[0]


def _release_of_host() -> tuple[str, ...]:
    """Return the option that makes `$releasever` in a URL this host's release.

    dnf reads the release from the host's own database of packages. A distribution without RPM
    packages has no database, and an ordinary user of Debian 13 can't make one.
    """
    there = any(Path(folder, name).exists() for folder in _DATABASES for name in _DATABASE_FILES)
    return ("--releasever", "/") if there else ()


def _with_modules(name: str, build: dict[str, Rpm]) -> tuple[str, ...]:
    """Return the package of a build with the modules that a machine needs, if there is one.

    RHEL 9 and Fedora have virtio and file systems in kernel-modules-core. RHEL 8 has them in
    kernel-core, where kernel-modules does no harm. Amazon's and SUSE's kernels are one package.
    """
    base = name.removesuffix("-core")
    found = [f"{base}-{part}" for part in ("modules-core", "modules") if f"{base}-{part}" in build]
    return tuple(found[:1])


def _parse(text: str) -> list[Rpm]:
    result = []
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) == len(_FIELDS):
            name, epoch, version, release, arch, source, size, installed = fields
            sizes = (int(size), int(installed))
            result.append(Rpm(name, epoch, f"{version}-{release}", arch, source, *sizes))
    return result


# The first one that fits counts.
_FAILURES = (
    Failure(
        r"No space left on device|not enough free space",
        BpfmatrixError,
        "{repository}: no space was left in the cache while dnf fetched",
        "Free some space, or let BPFMATRIX_CACHE name a folder on a larger disk.",
    ),
    Failure(
        r"GPG signature is not available",
        KernelUnavailableError,
        "the metadata of {repository} is not signed",
        "If its vendor signs packages only (they are checked in any case), say so in kernels.yaml: "
        "`signed_metadata: false`.",
    ),
    Failure(
        r"GPG signature verification error|Bad GPG signature|Failed to retrieve GPG key",
        KernelUnavailableError,
        "the metadata of {repository} is signed by no key of {key}, or changed since",
        "Give `key` the keys that the vendor publishes. {said}",
    ),
    Failure(
        r"Could ?n.t resolve|Could not resolve|Connection (refused|reset|timed out)"
        r"|Couldn't connect|Timeout was reached|Curl error \((5|6|7|28|35|52|55|56|60|77|92)\)"
        r"|Status code: (407|5\d\d)",
        UnreachableError,
        "{repository} can't be reached",
        "{said}",
    ),
    Failure(
        r"Status code: 4\d\d for \S*repomd\.xml|Curl error \(37\)",
        KernelUnavailableError,
        "there is no repository at {repository}",
        "Expected: the folder that holds `repodata`. {said}",
    ),
    Failure(
        r"checksum doesn't match|[Cc]hecksum mismatch|Parsing|Status code: 4\d\d",
        KernelUnavailableError,
        "{repository}: what the mirror sent is not what its metadata says",
        "The mirror may just be changing: try again in a few minutes. {said}",
    ),
    Failure(
        r"No such command: download",
        ToolMissingError,
        "dnf has no `download` command",
        "Install the package dnf-plugins-core.",
    ),
    Failure(r"", KernelUnavailableError, "{repository}: dnf could not fetch the kernel", "{said}"),
)


def explained_log(log: str, repository: str, key: str, log_path: Path) -> BpfmatrixError:
    """Return the error for a failed dnf, by its log; the error names the path of the log."""
    lines = [line.removeprefix("Error: ") for line in log.splitlines() if line.startswith("Error:")]
    # curl's own words say more than dnf's, that all mirrors were tried.
    lines = [line.strip(" -") for line in log.splitlines() if line.startswith("  - ")] or lines
    said = f"dnf said: {lines[0] if lines else 'nothing'} (all of it: {log_path})"
    return explained(_FAILURES, log, repository=repository, key=key, said=said)
