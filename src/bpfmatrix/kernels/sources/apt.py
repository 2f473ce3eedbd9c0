"""The `apt` source: kernels from Debian's archive, fetched by apt itself.

Each (mirror, suite, architecture) has private folders in the cache, so that the host's apt is
neither asked for rights nor changed. Signatures, proxies, mirrors, retries and checksums are
apt's work; what is read here is its index, its exit status and, for a sentence, its log.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import AptSource
from bpfmatrix.errors import (
    BpfmatrixError,
    KernelUnavailableError,
    ToolMissingError,
    UnreachableError,
)
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256, sha256_of
from bpfmatrix.host.process import output
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.sources import apt_sources as mirrors
from bpfmatrix.kernels.sources.apt_sources import Mirror
from bpfmatrix.kernels.sources.debian import KERNEL_STANZA, Deb, parse_index
from bpfmatrix.kernels.sources.package_manager import run_logged

__all__ = ["Archive"]


@dataclass(frozen=True)
class Archive:
    """One suite of the archive, for one architecture, as a private apt sees it."""

    cache: Cache
    mirror: Mirror
    suite: str
    arch: str

    @classmethod
    def of_host(cls, cache: Cache, suite: str, arch: str) -> "Archive":
        """Return the suite on the mirror that the host's apt uses."""
        _require_tools(cache)
        return cls(cache, mirrors.find(suite), suite, arch)

    @classmethod
    def of(cls, cache: Cache, kernel: KernelConfig, source: AptSource) -> "Archive":
        """Return the suite of a kernel: on the mirror that it names, or on the host's."""
        if source.mirror is None or source.keyring is None:
            found = cls.of_host(cache, source.suite, kernel.arch)
            mirror = replace(found.mirror, components=tuple(source.components))
            return replace(found, mirror=mirror)
        _require_tools(cache)
        keyring = kernel.root / source.keyring.expanduser()
        if not keyring.is_file():
            raise KernelUnavailableError(
                f"{keyring}: no such file",
                f"kernels.{kernel.id}.source.apt.keyring names it: the keys of {source.mirror}, "
                "such as the distribution's keyring package has them.",
            )
        components = tuple(source.components)
        mirror = Mirror(source.mirror, source.suite, keyring=keyring, components=components)
        return cls(cache, mirror, source.suite, kernel.arch)

    @property
    def folder(self) -> Path:
        """Where this apt keeps its settings, its index and its log."""
        identity = f"{self.mirror.uri} {self.suite} {self.arch}"
        if self.mirror.keyring or self.mirror.components != ("main",):
            identity += f" {self.mirror.keyring} {self.mirror.components}"
        key = sha256(identity)
        return self.cache.root / "apt" / f"{self.suite.replace('/', '_')}-{self.arch}-{key[:8]}"

    @property
    def log(self) -> Path:
        """What apt said last."""
        return self.folder / "log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the index."""
        with self.cache.lock(f"apt-{self.folder.name}"):
            yield

    def update(self, progress: Progress = silent) -> None:
        """Fetch the suite's index, if it changed; the caller holds the lock."""
        progress(f"{self.suite}: looking for kernels")
        self._write_settings()
        if self._run(["apt-get", "update", "-q"]) != 0:
            raise self._error()

    def debs(self, wanted: re.Pattern[str] = KERNEL_STANZA) -> list[Deb]:
        """Return the kernel packages of the index as it was last fetched; none before that.

        For other packages, `wanted` matches the begin of their stanzas.
        """
        if not (self.folder / "apt.conf").exists():
            return []
        text = [
            self._output(["/usr/lib/apt/apt-helper", "cat-file", file])
            for file in self._ask("$(FILENAME)")
            if Path(file).exists()
        ]
        return parse_index("\n\n".join(text), wanted)

    def vendor(self) -> str:
        """Return whose suite it is, by its signed Release file: `Debian`."""
        # The labels of pockets are "Debian Backports" and "Debian-Security".
        return next((re.split(r"[ -]", label)[0] for label in self._ask("$(LABEL)")), "")

    def download(
        self, debs: Sequence[Deb], folder: Path, progress: Progress = silent
    ) -> list[Path]:
        """Fetch packages into an empty folder; apt compares them with the signed index."""
        total = sum(deb.size_bytes for deb in debs)
        text = f"{debs[0].name} {debs[0].version}: fetching {total / 1e6:.0f} MB"

        def tell() -> None:
            there = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
            progress(text, min(there / total, 1.0) if total else None)

        words = [f"{deb.name}={deb.version}" for deb in debs]
        if self._run(["apt-get", "download", "-q", *words], cwd=folder, tell=tell) != 0:
            raise self._error()
        # apt's names for them escape characters such as ":"; what counts is their content.
        found = {sha256_of(path): path for path in folder.glob("*.deb")}
        try:
            return [found[deb.sha256] for deb in debs]
        except KeyError:
            raise BpfmatrixError(
                f"{self.suite}: apt fetched other files than its index names"
            ) from None

    def _ask(self, field: str) -> list[str]:
        command = ["apt-get", "indextargets", "--format", field, "Created-By: Packages"]
        # A field that is not set is left as it is.
        return [line for line in self._output(command).splitlines() if line != field]

    def _output(self, command: Sequence[str]) -> str:
        return output(command, f"{self.suite}: {command[0]} failed", env=self._environment())

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}

    def _run(
        self,
        command: Sequence[str],
        cwd: Path | None = None,
        tell: Callable[[], None] = lambda: None,
    ) -> int:
        return run_logged(command, self.log, self._environment(), cwd, tell)

    def _error(self) -> BpfmatrixError:
        log = self.log.read_text(encoding="utf-8", errors="replace")
        return explain(log, self.suite, self.log, self.mirror)

    def _write_settings(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        signed_by = ",".join(str(path) for path in self.mirror.keyrings)
        arch = ARCHITECTURES[self.arch].debian
        options = f"[arch={arch}{f' signed-by={signed_by}' if signed_by else ''}]"
        (self.folder / "sources.list").write_text(
            f"deb {options} {self.mirror.uri} {self.suite} {' '.join(self.mirror.components)}\n"
        )
        settings = self.folder / "apt.conf"
        settings.touch(mode=0o600)  # a proxy's URI may hold a password
        settings.write_text("".join(f"{line}\n" for line in self._settings()))

    def _settings(self) -> Iterator[str]:
        # APT_CONFIG is read before all others, so this keeps apt from reading the host's files,
        # and with them the host's hooks.
        yield 'Dir::Etc::main "/dev/null";'
        yield 'Dir::Etc::parts "/dev/null";'
        yield 'Dir::Etc::preferences "/dev/null";'
        yield 'Dir::Etc::preferencesparts "/dev/null";'
        yield 'Dir::Etc::sourceparts "/dev/null";'
        yield f'Dir::Etc::sourcelist "{self.folder}/sources.list";'
        yield f'Dir::State "{self.folder}";'
        yield f'Dir::State::status "{self.folder}/status";'
        yield f'Dir::Cache "{self.folder}/cache";'
        # Indexes in memory: one suite is read fast enough, and takes no disk then.
        yield 'Dir::Cache::pkgcache "";'
        yield 'Dir::Cache::srcpkgcache "";'
        arch = ARCHITECTURES[self.arch].debian
        yield f'APT::Architecture "{arch}";'
        yield f'APT::Architectures {{ "{arch}"; }};'
        # apt as root fetches as _apt, which can't write here; said so, it does not warn.
        yield 'APT::Sandbox::User "root";'
        # Without it, `apt-get update` that reached nothing is a success.
        yield 'APT::Update::Error-Mode "any";'
        # Three, apt's default, with growing pauses: 7 s until "no network" is said.
        yield 'Acquire::Retries "1";'
        yield from host_acquire_options(self._host_settings())
        yield 'Acquire::Languages { "none"; };'
        yield 'Acquire::GzipIndexes "true";'
        yield 'Acquire::AllowInsecureRepositories "false";'
        yield 'Acquire::AllowWeakRepositories "false";'
        yield 'Acquire::AllowDowngradeToInsecureRepositories "false";'

    @staticmethod
    def _host_settings() -> str:
        return subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, check=False
        ).stdout


def host_acquire_options(dump: str) -> Iterator[str]:
    """Give those lines of `apt-config dump` that say how the host reaches its mirrors.

    Proxies, certificates, timeouts, retries: all of `Acquire::`, but for what names further
    indexes, and what is set here in any case.
    """
    for line in dump.splitlines():
        name, _, value = line.partition(" ")
        own = ("Acquire::IndexTargets", "Acquire::Languages", "Acquire::GzipIndexes")
        if not name.startswith("Acquire::") or name.startswith(own):
            continue
        # apt's syntax has no escape for a quote, so such a value can't be written down.
        if re.fullmatch(r'"[^"\\]*";', value):
            yield line


def _require_tools(cache: Cache) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise ToolMissingError(
                f"{tool} is not installed, and kernels from apt are fetched by it",
                "Run this where Debian's apt is, or in a container of Debian; a kernel that "
                "is cached needs neither.",
            )
    if set('"\\\n') & set(str(cache.root)):  # apt's settings have no escape for them
        raise BpfmatrixError(
            f"apt can't work in {str(cache.root)!r}", "Let BPFMATRIX_CACHE name a plain path."
        )


# apt has one exit status for every failure, so its words are all there is to tell them apart:
# (pattern, error, what is the case, what to do), the first that fits.
_FAILURES: tuple[tuple[str, type[BpfmatrixError], str, str], ...] = (
    (
        r"No space left on device",
        BpfmatrixError,
        "{suite}: no space was left in the cache while apt fetched",
        "Free some space, or let BPFMATRIX_CACHE name a folder on a larger disk.",
    ),
    (
        r"NO_PUBKEY|GPG error|is (not|no longer) signed|BADSIG|EXPKEYSIG|REVKEYSIG|[Cc]learsigned",
        KernelUnavailableError,
        "{suite}: the archive's signature is missing or is by no key {of}",
        "{keyring} may have the key. {said}",
    ),
    (
        r"Release file .*(is expired|is not valid yet)",
        KernelUnavailableError,
        "{suite}: the archive's index is out of date, or this host's clock is wrong",
        "{said}",
    ),
    (
        r"Temporary failure resolving|Could not resolve|Something wicked happened resolving"
        r"|[Cc]ould not connect|Unable to connect|Cannot initiate the connection"
        r"|[Cc]onnection (failed|timed out|refused|reset)|Network is unreachable|No route to host"
        r"|Error reading from server|Could not handshake|Certificate verification failed"
        r"|  (407|50\d) |Invalid response from proxy",
        UnreachableError,
        "{suite} can't be reached",
        "{said}",
    ),
    (
        r"does not have a Release file",
        KernelUnavailableError,
        "{archive} has no suite {suite}",
        "{suites} {said}",
    ),
    (
        r"Failed to fetch \S+\s+404 ",
        KernelUnavailableError,
        "{suite}: the archive no longer has a package that its index names",
        "Name another release of the series. {said}",
    ),
    (
        r"Hash Sum mismatch|File has unexpected size",
        KernelUnavailableError,
        "{suite}: what the mirror sent does not have the checksum of the signed index",
        "The mirror may just be changing: try again in a few minutes. {said}",
    ),
    (r"", KernelUnavailableError, "{suite}: apt could not fetch the kernel", "{said}"),
)


def explain(log: str, suite: str, log_path: Path, mirror: Mirror | None = None) -> BpfmatrixError:
    """Turn what apt said into one sentence; the log's path is the way to the rest."""
    errors = [line.removeprefix("E: ") for line in log.splitlines() if line.startswith("E: ")]
    words = {
        "suite": suite,
        "said": f"apt said: {errors[0] if errors else 'nothing'} (all of it: {log_path})",
        "of": "that this host trusts",
        "keyring": "A newer debian-archive-keyring",
        "archive": "the archive that this host's apt uses",
        "suites": "Debian's suites are named like bookworm-security or trixie-backports.",
    }
    if mirror and mirror.keyring:
        words |= {
            "of": f"of {mirror.keyring}",
            "keyring": "A newer keyring package of the distribution",
            "archive": mirror.uri,
            "suites": "Look which folders there are in its `dists`.",
        }
    kind, what, advice = next(row[1:] for row in _FAILURES if re.search(row[0], log))
    return kind(what.format(**words), advice.format(**words))
