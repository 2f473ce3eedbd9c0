"""A suite of an archive of Debian packages, as a private apt sees it.

Each suite, for each archive and architecture, has private folders in the cache, so that the host's
own apt is not changed, and no rights are needed. apt itself does signatures, proxies, mirrors,
retries and checksums; this module reads its index, its exit status, and its log for an error.
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
    NotInArchiveError,
    ToolMissingError,
    UnreachableError,
)
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256, sha256_of
from bpfmatrix.host.process import output
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.sources import apt_sources
from bpfmatrix.kernels.sources.apt_packages import KERNEL_STANZA, Deb, parse_index
from bpfmatrix.kernels.sources.apt_sources import AptEntry
from bpfmatrix.kernels.sources.package_manager import Failure, explained, read_log, run_logged

__all__ = ["Archive"]


@dataclass(frozen=True)
class Archive:
    """One suite of an archive, for one architecture."""

    cache: Cache
    entry: AptEntry
    suite: str
    arch: str

    @classmethod
    def of_host(cls, cache: Cache, suite: str, arch: str) -> "Archive":
        """Return the suite of the archive that the host's apt uses."""
        _require_tools(cache)
        return cls(cache, apt_sources.find(suite), suite, arch)

    @classmethod
    def of(cls, cache: Cache, kernel: KernelConfig, source: AptSource) -> "Archive":
        """Return the suite of a kernel: of the archive that it names, or of the host's archive."""
        if source.mirror is None or source.keyring is None:
            found = cls.of_host(cache, source.suite, kernel.arch)
            entry = replace(found.entry, components=tuple(source.components))
            return replace(found, entry=entry)
        _require_tools(cache)
        keyring = kernel.root / source.keyring.expanduser()
        if not keyring.is_file():
            raise KernelUnavailableError(
                f"{keyring}: no such file",
                f"kernels.{kernel.id}.source.apt.keyring names it: the keys of {source.mirror}, "
                "such as the distribution's keyring package has them.",
            )
        components = tuple(source.components)
        entry = AptEntry(source.mirror, source.suite, keyring=keyring, components=components)
        return cls(cache, entry, source.suite, kernel.arch)

    @property
    def folder(self) -> Path:
        """The folder of this apt: its settings, its index and its log."""
        identity = f"{self.entry.uri} {self.suite} {self.arch}"
        if self.entry.keyring or self.entry.components != ("main",):
            identity += f" {self.entry.keyring} {self.entry.components}"
        key = sha256(identity)
        return self.cache.root / "apt" / f"{self.suite.replace('/', '_')}-{self.arch}-{key[:8]}"

    @property
    def log(self) -> Path:
        """The output of the last apt command."""
        return self.folder / "log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock on the index, so that no other process changes it."""
        with self.cache.lock(f"apt-{self.folder.name}"):
            yield

    def update(self, progress: Progress = silent) -> None:
        """Fetch the suite's index, if it changed. The caller holds the lock."""
        progress(f"{self.suite}: fetching the index")
        self._write_settings()
        if self._run(["apt-get", "update", "-q"]) != 0:
            raise self._error()

    def debs(self, stanzas: re.Pattern[str] = KERNEL_STANZA) -> list[Deb]:
        """Return the kernel packages of the index that was fetched last; none if none was.

        For other packages, `stanzas` is a pattern for the start of their stanzas.
        """
        if not (self.folder / "apt.conf").exists():
            return []
        text = [
            self._output(["/usr/lib/apt/apt-helper", "cat-file", "--", file])
            for file in self._ask("$(FILENAME)")
            if Path(file).exists()
        ]
        return parse_index("\n\n".join(text), stanzas)

    def vendor(self) -> str:
        """Return the distributor of the suite, by its signed Release file: `Debian`."""
        # The labels of pockets are "Debian Backports" and "Debian-Security".
        return next((re.split(r"[ -]", label)[0] for label in self._ask("$(LABEL)")), "")

    def download(
        self, debs: Sequence[Deb], folder: Path, progress: Progress = silent
    ) -> list[Path]:
        """Download packages into an empty folder; apt checks them by the signed index."""
        total = sum(deb.size_bytes for deb in debs)
        text = f"{debs[0].name} {debs[0].version}: fetching {total / 1e6:.0f} MB"

        def show() -> None:
            there = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
            progress(text, min(there / total, 1.0) if total else None)

        specs = [f"{deb.name}={deb.version}" for deb in debs]
        if self._run(["apt-get", "download", "-q", "--", *specs], cwd=folder, show=show) != 0:
            raise self._error()
        # By content, as apt escapes characters such as ":" in the names of the files.
        found = {sha256_of(path): path for path in folder.glob("*.deb")}
        try:
            return [found[deb.sha256] for deb in debs]
        except KeyError:
            raise BpfmatrixError(
                f"{self.suite}: apt fetched other files than its index names"
            ) from None

    def _ask(self, field: str) -> list[str]:
        command = ["apt-get", "indextargets", "--format", field, "Created-By: Packages"]
        # apt prints the placeholder of a field that is not set.
        return [line for line in self._output(command).splitlines() if line != field]

    def _output(self, command: Sequence[str]) -> str:
        return output(command, f"{self.suite}: {command[0]} failed", env=self._environment())

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}

    def _run(
        self,
        command: Sequence[str],
        cwd: Path | None = None,
        show: Callable[[], None] = lambda: None,
    ) -> int:
        return run_logged(command, self.log, self._environment(), cwd, show)

    def _error(self) -> BpfmatrixError:
        log = read_log(self.log)
        return explained_log(log, self.suite, self.log, self.entry)

    def _write_settings(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        signed_by = ",".join(str(path) for path in self.entry.keyrings)
        arch = ARCHITECTURES[self.arch].debian
        options = f"[arch={arch}{f' signed-by={signed_by}' if signed_by else ''}]"
        (self.folder / "sources.list").write_text(
            f"deb {options} {self.entry.uri} {self.suite} {' '.join(self.entry.components)}\n"
        )
        settings = self.folder / "apt.conf"
        settings.touch(mode=0o600)  # a proxy's URI may hold a password
        settings.write_text("".join(f"{line}\n" for line in self._settings()))

    def _settings(self) -> Iterator[str]:
        # apt reads the file of APT_CONFIG before all others. These lines keep it from reading the
        # host's settings, and with them the host's hooks.
        yield 'Dir::Etc::main "/dev/null";'
        yield 'Dir::Etc::parts "/dev/null";'
        yield 'Dir::Etc::preferences "/dev/null";'
        yield 'Dir::Etc::preferencesparts "/dev/null";'
        yield 'Dir::Etc::sourceparts "/dev/null";'
        yield f'Dir::Etc::sourcelist "{self.folder}/sources.list";'
        yield f'Dir::State "{self.folder}";'
        yield f'Dir::State::status "{self.folder}/status";'
        yield f'Dir::Cache "{self.folder}/cache";'
        # No caches of the index on the disk: apt reads the index of one suite fast enough.
        yield 'Dir::Cache::pkgcache "";'
        yield 'Dir::Cache::srcpkgcache "";'
        yield f'APT::Architecture "{ARCHITECTURES[self.arch].debian}";'
        yield f'APT::Architectures {{ "{ARCHITECTURES[self.arch].debian}"; }};'
        # As root, apt would download as the user _apt, who can't write here, and warn about it.
        yield 'APT::Sandbox::User "root";'
        # Without this, `apt-get update` exits with 0 if no server could be reached.
        yield 'APT::Update::Error-Mode "any";'
        # apt's default is 3, with growing pauses: it notices after 7 s that there is no network.
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
    """Give the lines of `apt-config dump` that say how the host reaches its archives.

    These are proxies, certificates, time-outs and retries: all of `Acquire::` but what names
    further indexes, and what `_settings` sets itself.
    """
    for line in dump.splitlines():
        name, _, value = line.partition(" ")
        own = ("Acquire::IndexTargets", "Acquire::Languages", "Acquire::GzipIndexes")
        if not name.startswith("Acquire::") or name.startswith(own):
            continue
        # A value with a quote can't be written: apt's syntax has no escape for it.
        if re.fullmatch(r'"[^"\\]*";', value):
            yield line


def _require_tools(cache: Cache) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise ToolMissingError(
                f"{tool} is not installed, and packages of Debian are fetched by it",
                "Run this where Debian's apt is, or in a container of Debian; a kernel that "
                "is cached needs neither.",
            )
    if set('"\\\n') & set(str(cache.root)):  # apt's settings have no escape for them
        raise BpfmatrixError(
            f"apt can't work in {str(cache.root)!r}", "Let BPFMATRIX_CACHE name a plain path."
        )


# The first one that fits counts.
_FAILURES = (
    Failure(
        r"No space left on device",
        BpfmatrixError,
        "{suite}: no space was left in the cache while apt fetched",
        "Free some space, or let BPFMATRIX_CACHE name a folder on a larger disk.",
    ),
    Failure(
        r"NO_PUBKEY|GPG error|is (not|no longer) signed|BADSIG|EXPKEYSIG|REVKEYSIG|[Cc]learsigned",
        KernelUnavailableError,
        "{suite}: the archive's signature is missing or is by no key {of}",
        "{keyring} may have the key. {said}",
    ),
    Failure(
        r"Release file .*(is expired|is not valid yet)",
        KernelUnavailableError,
        "{suite}: the archive's index is out of date, or this host's clock is wrong",
        "{said}",
    ),
    Failure(
        r"Temporary failure resolving|Could not resolve|Something wicked happened resolving"
        r"|[Cc]ould not connect|Unable to connect|Cannot initiate the connection"
        r"|[Cc]onnection (failed|timed out|refused|reset)|Network is unreachable|No route to host"
        r"|Error reading from server|Could not handshake|Certificate verification failed"
        r"|  (407|50\d) |Invalid response from proxy",
        UnreachableError,
        "{suite} can't be reached",
        "{said}",
    ),
    Failure(
        r"does not have a Release file",
        KernelUnavailableError,
        "{archive} has no suite {suite}",
        "{suites} {said}",
    ),
    Failure(
        r"Failed to fetch \S+\s+404 ",
        NotInArchiveError,
        "{suite}: the archive no longer has a package that its index names",
        "Name another release of the series. {said}",
    ),
    Failure(
        r"Hash Sum mismatch|File has unexpected size",
        KernelUnavailableError,
        "{suite}: what the mirror sent does not have the checksum of the signed index",
        "The mirror may just be changing: try again in a few minutes. {said}",
    ),
    Failure(r"", KernelUnavailableError, "{suite}: apt could not fetch the packages", "{said}"),
)


def explained_log(
    log: str, suite: str, log_path: Path, entry: AptEntry | None = None
) -> BpfmatrixError:
    """Return the error for a failed apt, by its log; the error names the path of the log."""
    errors = [line.removeprefix("E: ") for line in log.splitlines() if line.startswith("E: ")]
    values = {
        "suite": suite,
        "said": f"apt said: {errors[0] if errors else 'nothing'} (all of it: {log_path})",
        "of": "that this host trusts",
        "keyring": "A newer debian-archive-keyring",
        "archive": "the archive that this host's apt uses",
        "suites": "Debian's suites are named like bookworm-security or trixie-backports.",
    }
    if entry and entry.keyring:
        values |= {
            "of": f"of {entry.keyring}",
            "keyring": "A newer keyring package of the distribution",
            "archive": entry.uri,
            "suites": "The folders in its `dists` are its suites.",
        }
    return explained(_FAILURES, log, **values)
