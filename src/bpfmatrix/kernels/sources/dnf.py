"""The `dnf` source: kernels from repositories of RPM packages, fetched by dnf itself.

Each (repository, key, architecture) has private folders in the cache: settings, metadata, a
keyring, an empty rpm database. dnf checks the metadata's signature and every checksum; `dnf
download` does not look at the packages' own signatures, so rpmkeys does, with that keyring.
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
    DamagedError,
    KernelUnavailableError,
    ToolMissingError,
    UnreachableError,
)
from bpfmatrix.host import versions
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256, sha256_of
from bpfmatrix.host.process import output
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.image import KernelImage, Provenance
from bpfmatrix.kernels.sources import package as packages
from bpfmatrix.kernels.sources.debian import nearest
from bpfmatrix.kernels.sources.download import download
from bpfmatrix.kernels.sources.package_manager import run_logged
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, require_space

__all__ = ["Repository", "Rpm", "fetch_rpms", "pattern"]

_NEEDED = {"dnf": "dnf", "rpmkeys": "rpm", "rpm2archive": "rpm"}
# A plain name and not a pattern: no version in it, and none of a pattern's characters.
_PLAIN_NAME = re.compile(r"(?!.*-\d+\.\d)[^*?\[\]]+")
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
# Fields are set apart by what none of them has; dnf 5 adds no newline of its own, dnf 4 does.
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
    """The source package, which the packages of one build have in common."""
    size_bytes: int
    installed_bytes: int

    @property
    def version(self) -> str:
        """The version as rpm compares it: with the epoch, if it has one."""
        return self.build if self.epoch == "0" else f"{self.epoch}:{self.build}"

    @property
    def spec(self) -> str:
        """What names exactly this package to dnf."""
        return f"{self.name}-{self.epoch}:{self.build}.{self.arch}"


def pattern(kernel: KernelConfig, source: DnfSource) -> str:
    """Return what a kernel's dnf source asks dnf for: a name, or a pattern of name and version."""
    series = versions.begin(kernel.id)
    if series and _PLAIN_NAME.fullmatch(source.package):
        return f"{source.package}-{series}.*"
    return source.package


@dataclass(frozen=True)
class Repository:
    """One repository, for one architecture, as a private dnf sees it."""

    cache: Cache
    source: DnfSource
    key: str
    """A file or an address."""
    arch: str

    @classmethod
    def of(cls, cache: Cache, kernel: KernelConfig, source: DnfSource) -> "Repository":
        """Return the repository of a kernel; ToolMissingError, or that there is no such key."""
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
                    "as its vendor publishes them (docs/vendor-kernels.md).",
                )
            key = str(path)
        return cls(cache, source, key, kernel.arch)

    @property
    def folder(self) -> Path:
        """Where this dnf keeps its settings, its metadata, its keys and its log."""
        key = self.key if is_url(self.key) else sha256_of(Path(self.key))
        identity = f"{self.source.repository} {key} {self.source.signed_metadata} {self.arch}"
        digest = sha256(identity)
        host = re.sub(r"[^\w.-]", "_", self.source.repository.split("/")[2]) or "local"
        return self.cache.root / "dnf" / f"{host}-{self.arch}-{digest[:8]}"

    @property
    def log(self) -> Path:
        """What dnf said last."""
        return self.folder / "log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the metadata."""
        with self.cache.lock(f"dnf-{self.folder.name}"):
            yield

    def update(self, progress: Progress = silent) -> None:
        """Fetch the metadata, if it changed, and check it; the caller holds the lock."""
        progress(f"{self.source.repository}: looking for kernels")
        self._write_settings(progress)
        if self._run("makecache", "--refresh") != 0:
            raise self._error()
        self._refuse_older()

    def newest(self, wanted: str) -> Rpm:
        """Return the newest package that the pattern means, by rpm's order."""
        found = self._query("--latest-limit=1", wanted)
        if not found:
            raise self._no_package(wanted)
        if len(found) > 1:
            names = ", ".join(rpm.name for rpm in found[:4])
            raise KernelUnavailableError(
                f"{wanted} means several packages of {self.source.repository}: {names}",
                "Name one of them in kernels.yaml.",
            )
        return found[0]

    def resolve(self, wanted: str) -> tuple[Rpm, ...]:
        """Return the newest package that the pattern means, by rpm's order, and its companions.

        These are the packages of the same build that it needs, the one with the modules that
        machines need, and `extra_packages`.
        """
        first = self.newest(wanted)
        build = {rpm.name: rpm for rpm in self._query(f"*-{first.build}.{self.arch}")}
        build = {name: rpm for name, rpm in build.items() if rpm.source == first.source}
        result, open_ends = {first.name: first}, [first]
        while open_ends:
            specs = [rpm.spec for rpm in open_ends]
            # Of all that a kernel needs, only what was built with it can hold files of it.
            needed = {rpm.name for rpm in self._query("--requires", "--resolve", *specs)}
            open_ends = [build[name] for name in sorted((needed & build.keys()) - result.keys())]
            result.update({rpm.name: rpm for rpm in open_ends})
        for name in (*_with_modules(first.name, build), *self.source.extra_packages):
            if name not in build:
                raise KernelUnavailableError(
                    f"{self.source.repository} has no {name} of the build {first.version}",
                    f"The build has {', '.join(nearest(name, build))}.",
                )
            result.setdefault(name, build[name])
        return tuple(result.values())

    def again(self, names: Sequence[tuple[str, str]]) -> tuple[Rpm, ...]:
        """Return these very packages (name, version), or nothing if one of them is gone."""
        found = []
        for name, version in names:
            rpms = self._query(f"{name}-{version}.{self.arch}")
            found += [rpm for rpm in rpms if (rpm.name, rpm.version) == (name, version)][:1]
        return tuple(found) if len(found) == len(names) else ()

    def download(
        self, rpms: Sequence[Rpm], folder: Path, progress: Progress = silent
    ) -> list[Path]:
        """Fetch packages into an empty folder, and check their signatures."""
        total = sum(rpm.size_bytes for rpm in rpms)
        text = f"{rpms[0].name} {rpms[0].version}: fetching {total / 1e6:.0f} MB"

        def tell() -> None:
            there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            progress(text, min(there / total, 1.0) if total else None)

        specs = [rpm.spec for rpm in rpms]
        if self._run("download", "--destdir", str(folder), *specs, tell=tell) != 0:
            raise self._error()
        found = {}
        for path in folder.glob("*.rpm"):
            self._check_signature(path)
            described, _ = packages.describe(path)
            found[described.name, described.version] = path
        try:
            return [found[rpm.name, rpm.version] for rpm in rpms]
        except KeyError:
            raise BpfmatrixError(
                f"{self.source.repository}: dnf fetched other packages than its metadata names"
            ) from None

    def _check_signature(self, path: Path) -> None:
        # Without the level, a package with no signature at all is as good as a signed one.
        strict = ["--define", "_pkgverify_level all", "--define", "_pkgverify_flags 0x0"]
        done = subprocess.run(
            ["rpmkeys", "--dbpath", self.folder / "keys", *strict, "--checksig", path],
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

    def _query(self, *words: str) -> list[Rpm]:
        if not (self.folder / "dnf.conf").exists():
            return []
        # What `update` fetched, and no network.
        command = self._command("repoquery", "--cacheonly", "--quiet", "--queryformat", _FORMAT)
        command += ["--arch", f"{self.arch},noarch", *words]
        failure = f"{self.source.repository}: dnf repoquery failed"
        return _parse(output(command, failure, env=self._environment()))

    def _no_package(self, wanted: str) -> KernelUnavailableError:
        name = re.split(r"-(?=[\d*?\[])", wanted)[0]
        same = self._query("--latest-limit=4", name)
        if same:
            near = [f"{rpm.name} {rpm.version}" for rpm in same]
        else:
            near = nearest(name, {rpm.name for rpm in self._query("kernel*")})
        return KernelUnavailableError(
            f"{self.source.repository} has no package {wanted}",
            f"It has {', '.join(near)}." if near else "It has no kernel packages at all.",
        )

    def _refuse_older(self) -> None:
        """Refuse metadata older than what was seen before: it may be replayed, and hide updates.

        A signature never expires here: rpm's metadata has no counterpart of apt's Valid-Until.
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

    def _run(self, *words: str, tell: Callable[[], None] = lambda: None) -> int:
        return run_logged(self._command(*words), self.log, self._environment(), tell=tell)

    def _command(self, *words: str) -> list[str]:
        settings = ["--config", str(self.folder / "dnf.conf"), "--releasever", "/"]
        return ["dnf", *settings, "--disableplugin=*", "--enableplugin=download", *words]

    def _environment(self) -> dict[str, str]:
        # On Debian, rpm's database is in the home folder.
        return {**os.environ, "HOME": str(self.folder), "LC_ALL": "C"}

    def _error(self) -> BpfmatrixError:
        log = self.log.read_text(encoding="utf-8", errors="replace")
        return explain(log, self.source.repository, self.key, self.log)

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
                    # These are below installroot, whatever they say.
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
        """Make the private keyring, once: a folder belongs to one key."""
        own = self.folder / "key.asc"
        if own.exists():
            return
        with self.cache.staging() as staging:
            new = staging / "key.asc"
            if is_url(self.key):
                download(self.key, new, progress)
            else:
                shutil.copyfile(self.key, new)
            done = subprocess.run(
                ["rpmkeys", "--dbpath", self.folder / "keys", "--import", new],
                env=self._environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise KernelUnavailableError(
                    f"{self.key} holds no key that rpm can read",
                    "Expected is an armored public key: -----BEGIN PGP PUBLIC KEY BLOCK-----.",
                )
            new.replace(own)


def _with_modules(name: str, build: dict[str, Rpm]) -> tuple[str, ...]:
    """Return the package of a build with the modules that a machine needs, beside `kernel-core`.

    RHEL 9 and Fedora have virtio and file systems in kernel-modules-core; RHEL 8 has those in
    kernel-core itself, where kernel-modules does no harm; Amazon's and SUSE's kernels are whole.
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


# dnf has one exit status for every failure, so its words are all there is to tell them apart:
# (pattern, error, what is the case, what to do), the first that fits.
_FAILURES: tuple[tuple[str, type[BpfmatrixError], str, str], ...] = (
    (
        r"No space left on device|not enough free space",
        BpfmatrixError,
        "{repository}: no space was left in the cache while dnf fetched",
        "Free some space, or let BPFMATRIX_CACHE name a folder on a larger disk.",
    ),
    (
        r"GPG signature is not available",
        KernelUnavailableError,
        "the metadata of {repository} is not signed",
        "If its vendor signs packages only (they are checked in any case), say so in kernels.yaml: "
        "`signed_metadata: false`.",
    ),
    (
        r"GPG signature verification error|Bad GPG signature|Failed to retrieve GPG key",
        KernelUnavailableError,
        "the metadata of {repository} is signed by no key of {key}, or changed since",
        "Give `key` the keys that the vendor publishes. {said}",
    ),
    (
        r"Could ?n.t resolve|Could not resolve|Connection (refused|reset|timed out)"
        r"|Couldn't connect|Timeout was reached|Curl error \((5|6|7|28|35|52|55|56|60|77|92)\)"
        r"|Status code: (407|5\d\d)",
        UnreachableError,
        "{repository} can't be reached",
        "{said}",
    ),
    (
        r"Status code: 4\d\d for \S*repomd\.xml|Curl error \(37\)",
        KernelUnavailableError,
        "there is no repository at {repository}",
        "Expected is the folder that holds `repodata`. {said}",
    ),
    (
        r"checksum doesn't match|[Cc]hecksum mismatch|Parsing|Status code: 4\d\d",
        KernelUnavailableError,
        "{repository}: what the mirror sent is not what its metadata says",
        "The mirror may just be changing: try again in a few minutes. {said}",
    ),
    (
        r"No such command: download",
        ToolMissingError,
        "dnf has no `download` command",
        "Install the package dnf-plugins-core.",
    ),
    (r"", KernelUnavailableError, "{repository}: dnf could not fetch the kernel", "{said}"),
)


def explain(log: str, repository: str, key: str, log_path: Path) -> BpfmatrixError:
    """Turn what dnf said into one sentence; the log's path is the way to the rest."""
    lines = [line.removeprefix("Error: ") for line in log.splitlines() if line.startswith("Error:")]
    # What curl said is more than that all mirrors were tried.
    lines = [line.strip(" -") for line in log.splitlines() if line.startswith("  - ")] or lines
    said = f"dnf said: {lines[0] if lines else 'nothing'} (all of it: {log_path})"
    kind, what, advice = next(row[1:] for row in _FAILURES if re.search(row[0], log))
    return kind(
        what.replace("{repository}", repository).replace("{key}", key),
        advice.replace("{said}", said),
    )


def fetch_rpms(
    kernel: KernelConfig, source: DnfSource, store: Store, progress: Progress, same: bool
) -> KernelImage:
    """Store the kernel of a `dnf` source, unless it is there, and let `kernel` point at it."""
    repository = Repository.of(store.cache, kernel, source)
    name = f"dnf {source.repository}"
    with contextlib.ExitStack() as held:
        held.enter_context(repository.locked())
        repository.update(progress)
        before = [(p.name, p.version) for p in store.resolved_packages(kernel)] if same else []
        wanted = repository.again(before) or repository.resolve(pattern(kernel, source))
        if (image := _stored(store, kernel.arch, name, wanted)) and store.point(kernel, image):
            return image
        require_space(
            store.cache.root,
            UNPACKED_KERNEL_BYTES + sum(rpm.size_bytes + rpm.installed_bytes for rpm in wanted),
        )
        with store.cache.staging() as staging:
            (staging / "rpms").mkdir()
            (staging / "root").mkdir()
            files = repository.download(wanted, staging / "rpms", progress)
            held.close()  # another kernel of this repository need not wait for the unpacking
            progress(f"{kernel.id}: unpacking {wanted[0].name}")
            described = [packages.describe(path) for path in files]
            packages.unpack(files, staging / "root")
            provenance = Provenance(name, tuple(p for p, _ in described), described[0][1])
            version = versions.upstream(wanted[0].build)
            return store.add(kernel, staging, version, provenance)


def _stored(store: Store, arch: str, source: str, rpms: Sequence[Rpm]) -> KernelImage | None:
    wanted = [(rpm.name, rpm.version) for rpm in rpms]
    for image in store.images():
        found = [(package.name, package.version) for package in image.provenance.packages]
        if (image.arch, image.provenance.source, found) == (arch, source, wanted):
            try:
                image.verify()
            except DamagedError:
                return None
            return image
    return None
