"""A suite of an archive of Debian packages, as a private apt sees it.

apt has folders of its own in the cache. apt itself does signatures, proxies, mirrors, retries and
checksums; this module reads its index, its exit status, and its log for an error.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.host.process import output
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.sources import apt_failures, apt_sources, release_file
from bpfmatrix.kernels.sources.apt_archive import Archive, vendor_of
from bpfmatrix.kernels.sources.apt_packages import Deb
from bpfmatrix.kernels.sources.package_manager import read_log, run_logged

__all__ = ["AptGetArchive", "host_acquire_options"]

_HELPER = str(apt_sources.HELPER)


@dataclass(frozen=True)
class AptGetArchive(Archive):
    """A suite that is fetched by apt-get."""

    def __post_init__(self) -> None:
        if set('"\\\n') & set(str(self.cache.root)):  # apt's settings have no escape for them
            raise BpfmatrixError(
                f"apt can't work in {str(self.cache.root)!r}",
                "Let BPFMATRIX_CACHE name a plain path.",
            )

    @property
    def log(self) -> Path:
        """The output of the last apt command."""
        return self.folder / "log"

    def update(self, progress: Progress = silent) -> None:
        """See Archive."""
        progress(f"{self.suite}: fetching the index")
        self._write_settings()
        if self._run(["apt-get", "update", "-q"]) != 0:
            raise self._error()

    def check(self) -> None:
        """See Archive."""
        with tempfile.TemporaryDirectory() as folder:
            own = dataclasses.replace(self, cache=Cache(Path(folder)))
            if re.match(r"https?:", self.entry.uri):
                own._check(Path(folder) / "InRelease")
            else:  # only apt knows what such a URI, as `mirror+file:`, leads to
                own.update()

    def _check(self, file: Path) -> None:
        self._write_settings()
        url = f"{self.entry.uri.rstrip('/')}/dists/{self.suite}/InRelease"
        if self._run([_HELPER, "download-file", url, str(file)]) != 0:
            log = read_log(self.log)
            if re.search(r"Failed to fetch \S+\s+404 ", log):
                said = f"{url} is missing."
                raise apt_failures.error_of(apt_failures.NO_SUITE, self.entry, self.suite, said)
            raise apt_failures.of_log(log, self.entry, self.suite, None)
        settings = self._host_settings()
        check_dates = 'Acquire::Check-Valid-Until "false";' not in settings.splitlines()
        if self.entry.keyrings:
            release_file.verified(
                file.read_bytes(), self.entry, self.suite, check_dates and self.entry.check_dates
            )

    def index(self) -> str:
        """See Archive."""
        if not (self.folder / "apt.conf").exists():
            return ""
        return "\n\n".join(
            self._output([_HELPER, "cat-file", "--", file])
            for file in self._ask("$(FILENAME)")
            if Path(file).exists()
        )

    def vendor(self) -> str:
        """See Archive."""
        return next((vendor_of(label) for label in self._ask("$(LABEL)")), "")

    def download(
        self, debs: Sequence[Deb], folder: Path, progress: Progress = silent
    ) -> list[Path]:
        """See Archive; apt does the checks."""
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
        return apt_failures.of_log(log, self.entry, self.suite, self.log)

    def _write_settings(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        arch, components = ARCHITECTURES[self.arch].debian, " ".join(self.entry.components)
        (self.folder / "sources.list").write_text(
            f"deb [arch={arch}] {self.entry.uri} {self.suite} {components}\n"
        )
        self._write_keys()
        settings = self.folder / "apt.conf"
        settings.touch(mode=0o600)  # a proxy's URI may hold a password
        settings.write_text("".join(f"{line}\n" for line in self._settings()))

    @property
    def _keys(self) -> Path:
        """The folder with the keyrings that this apt trusts."""
        return self.folder / "keys"

    def _write_keys(self) -> None:
        # Not by `signed-by` in sources.list, which has no escape for a space in a path.
        shutil.rmtree(self._keys, ignore_errors=True)
        self._keys.mkdir()
        for number, keyring in enumerate(self.entry.keyrings):
            data = keyring.read_bytes()
            # apt takes the format from the name.
            suffix = "asc" if data.lstrip().startswith(b"-----BEGIN") else "gpg"
            (self._keys / f"{number}.{suffix}").write_bytes(data)

    def _settings(self) -> Iterator[str]:
        # apt reads the file of APT_CONFIG before all others. These lines keep it from reading the
        # host's settings, and with them the host's hooks.
        yield 'Dir::Etc::main "/dev/null";'
        yield 'Dir::Etc::parts "/dev/null";'
        yield 'Dir::Etc::preferences "/dev/null";'
        yield 'Dir::Etc::preferencesparts "/dev/null";'
        yield 'Dir::Etc::sourceparts "/dev/null";'
        yield f'Dir::Etc::sourcelist "{self.folder}/sources.list";'
        if self.entry.keyrings:
            yield 'Dir::Etc::trusted "/dev/null";'
            yield f'Dir::Etc::trustedparts "{self._keys}";'
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
        if not self.entry.check_dates:
            yield 'Acquire::Check-Valid-Until "false";'
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
