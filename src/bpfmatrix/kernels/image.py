"""A kernel that is ready to boot: what it is, where its files are, and where they came from.

It is in a folder of its own, with a `kernel.json` that describes it and has the checksums of its
files, and a `modules.json` with the checksums of its modules. `KernelImage.load` reads only
`kernel.json`, so that listing kernels is fast. `checked.json` has the identities that files had
when they last had these checksums (see `host.integrity`), so that they need not be read each time.
"""

import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bpfmatrix.config.kernels_lock import Package
from bpfmatrix.errors import DamagedError
from bpfmatrix.host import records
from bpfmatrix.host.checksum import RunningSha256, sha256, sha256_of
from bpfmatrix.host.integrity import Checked, checked_files, keep_checked, measure

__all__ = ["KernelImage", "Package", "Provenance", "is_made_by_depmod"]

FORMAT = 1
DESCRIPTION = "kernel.json"
MODULE_CHECKSUMS = "modules.json"
_CONFIG = "config"
_CHECKED = "checked.json"


@dataclass(frozen=True)
class Provenance:
    """Where a kernel came from, to be shown with every result."""

    source: str
    """Such as `apt bookworm-security`."""
    packages: tuple[Package, ...]
    """The package that was asked for comes first."""
    vendor: str = ""
    """The distributor of the packages, as the source names it: `Debian`."""
    registry: str = field(default="", compare=False, repr=False)
    """The repository that the kernel was fetched from by its digest; empty if it came from its
    source. Whichever way it came, it is the same kernel: so this is compared to nothing."""


@dataclass(frozen=True)
class KernelImage:
    """A kernel and its modules. Paths are absolute."""

    arch: str
    """The name of one of `ARCHITECTURES`."""
    release: str
    """What `uname -r` says: `6.1.0-53-cloud-amd64`."""
    version: str
    """The upstream release: `6.1.192`."""
    digest: str
    """`sha256:...` of `vmlinuz`: the identity of this kernel."""
    boot: Path
    """What QEMU's -kernel takes: an uncompressed ELF if `pvh`, else a bzImage or an Image."""
    pvh: bool
    """Whether `boot` is an ELF that boots through PVH."""
    vmlinuz: Path
    """The kernel as its source has it."""
    modules: Path | None
    """The folder `.../lib/modules/<release>`: uncompressed `*.ko` and depmod's files."""
    provenance: Provenance
    size_bytes: int = 0
    """About how much disk space all of its files take."""
    stored_at: float = 0.0
    """When it was stored, in seconds since 1970."""

    @property
    def label(self) -> str:
        """The name of its templates, for people: `x86_64-6.1.0-53-cloud-amd64`."""
        return f"{self.arch}-{self.release}"

    @property
    def description(self) -> str:
        """One line for people: `6.1.192 (Debian 6.1.192-2, apt bookworm-security)`."""
        packages = self.provenance.packages
        built = f"{self.provenance.vendor} {packages[0].version}".strip() if packages else ""
        # The version of an OCI image is its tag, which the source contains.
        if built == self.version or built in self.provenance.source:
            built = ""
        return f"{self.version} ({', '.join(filter(None, (built, self.provenance.source)))})"

    @property
    def folder(self) -> Path:
        """The folder that holds this kernel and nothing else."""
        return self.vmlinuz.parent

    @property
    def config(self) -> Path | None:
        """The file with its configuration (`CONFIG_...=y`), if its source has one."""
        path = self.folder / _CONFIG
        return path if path.exists() else None

    def has_option(self, name: str) -> bool:
        """Whether its configuration is known and has an option, such as `CONFIG_SMP`, built in."""
        return self.config is not None and f"\n{name}=y\n" in f"\n{self.config.read_text()}"

    @classmethod
    def load(cls, folder: Path) -> "KernelImage":
        """Read a kernel's description; DamagedError if it is missing or can't be understood."""
        data = _description(folder)
        try:
            provenance = data["provenance"]
            return cls(
                arch=data["arch"],
                release=data["release"],
                version=data["version"],
                digest=data["digest"],
                boot=folder / data["boot"],
                pvh=data["pvh"],
                vmlinuz=folder / data["vmlinuz"],
                modules=folder / data["modules"] if data["modules"] else None,
                provenance=Provenance(
                    source=provenance["source"],
                    packages=tuple(Package(**package) for package in provenance["packages"]),
                    vendor=provenance["vendor"],
                    registry=provenance.get("registry", ""),
                ),
                size_bytes=data["size_bytes"],
                stored_at=data["stored_at"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise _unreadable(folder / DESCRIPTION) from error

    def describe(self) -> None:
        """Write both JSON files; `kernel.json` last, as a folder with that file is a kernel."""
        here = self.folder
        names = {self.vmlinuz.name, self.boot.name, *([_CONFIG] if self.config else [])}
        if self.modules is not None:
            files = sorted(path for path in self.modules.rglob("*") if path.is_file())
            checksums = {str(path.relative_to(self.modules)): sha256_of(path) for path in files}
            (here / MODULE_CHECKSUMS).write_text(json.dumps(checksums, indent=0))
            names.add(MODULE_CHECKSUMS)
        data: dict[str, Any] = {
            "arch": self.arch,
            "release": self.release,
            "version": self.version,
            "digest": self.digest,
            "boot": self.boot.name,
            "pvh": self.pvh,
            "vmlinuz": self.vmlinuz.name,
            "modules": str(self.modules.relative_to(here)) if self.modules else None,
            "provenance": asdict(self.provenance),
            "sha256": {name: sha256_of(here / name) for name in sorted(names)},
            "size_bytes": sum(path.stat().st_size for path in here.rglob("*") if path.is_file()),
            "stored_at": time.time(),
        }
        records.write(here / DESCRIPTION, data, FORMAT)

    def store_digest(self) -> str:
        """Return the end of its folder's name in the store; OSError if a file can't be read.

        It depends on the content and on the provenance: two images with the same files and
        different provenances are different images. An image of a registry never has the name of one
        of a source: its provenance and its version are what some checkout's kernels.lock says.
        """
        digest = RunningSha256(f"{self.digest} {self.provenance}".encode())
        if self.modules:
            digest.update((self.folder / MODULE_CHECKSUMS).read_bytes())
        if self.provenance.registry:
            digest.update(f"{self.files_digest()} {self.version}".encode())
        return digest.hexdigest()[:12]

    def files_digest(self) -> str:
        """Return `sha256:...` of the configuration and the modules. Raises DamagedError.

        It is that of `sha256sum`'s lines (checksum, two spaces, path) for `config` and each file of
        `modules`, sorted by their paths. What depmod writes depends on its version, and is not
        included.
        """
        checksums = {}
        if self.modules is not None:
            every = _load_checksums(self.folder / MODULE_CHECKSUMS)
            own = f"lib/modules/{self.release}"
            checksums = {f"{own}/{n}": c for n, c in every.items() if not is_made_by_depmod(n)}
        if self.config:
            checksums[_CONFIG] = sha256_of(self.config)
        lines = (f"{checksum}  {name}\n" for name, checksum in sorted(checksums.items()))
        return f"sha256:{sha256(''.join(lines))}"

    def verify_boot(self, *, reread: bool = False) -> None:
        """Verify what a run reads of this kernel: the file that is booted, and its configuration.

        The list of the modules' checksums is verified as well, so `read_modules` can trust it.
        Files are only read if their identity changed since they were verified last, or if `reread`.
        Raises DamagedError.
        """
        checksums = self._checksums()
        needed = {self.boot.name, MODULE_CHECKSUMS, _CONFIG} & checksums.keys()
        _verify(self.folder, {name: checksums[name] for name in needed}, reread=reread)

    def verify(self) -> None:
        """Read every file of the kernel, and verify it by its checksum. Raises DamagedError."""
        _verify(self.folder, self._checksums(), reread=True)
        if self.modules is not None:
            checksums = _load_checksums(self.folder / MODULE_CHECKSUMS)
            for name, expected in checksums.items():
                _measured(self.modules / name, expected)

    def read_modules(self, names: Iterable[str]) -> dict[str, bytes]:
        """Read files by their paths below `modules`, and verify them.

        KeyError for a file that the kernel does not have, DamagedError for one that changed.
        """
        if self.modules is None:
            raise KeyError(f"{self.release} has no modules")
        checksums, result = _load_checksums(self.folder / MODULE_CHECKSUMS), {}
        for name in names:
            expected = checksums[name]
            try:
                result[name] = (self.modules / name).read_bytes()
            except OSError as error:
                raise _unreadable(self.modules / name) from error
            if sha256(result[name]) != expected:
                raise _changed(self.modules / name)
        return result

    def _checksums(self) -> dict[str, str]:
        if records.read_unsealed(self.folder / DESCRIPTION, FORMAT) is not None:
            self._seal()
        data = _description(self.folder)
        try:
            # A file without a checksum fails the comparison with "".
            return {**dict.fromkeys((self.vmlinuz.name, self.boot.name), ""), **data["sha256"]}
        except (KeyError, TypeError) as error:
            raise _unreadable(self.folder / DESCRIPTION) from error

    def _seal(self) -> None:
        """Write kernel.json with a checksum of itself, which earlier versions did not write.

        The name of the folder confirms the kernel's checksum, its provenance and its modules.
        Nothing confirms the rest, or the configuration, of which those versions kept no checksum.
        """
        path = self.folder / DESCRIPTION
        try:
            if not self.folder.name.endswith(f"-{self.store_digest()}"):
                raise _changed(path)
            data = _description(self.folder)
            checksums = dict(data["sha256"])
            if checksums[self.vmlinuz.name] != self.digest.removeprefix("sha256:"):
                raise _changed(path)
            if self.config:
                checksums.setdefault(_CONFIG, sha256_of(self.config))
            with contextlib.suppress(OSError):  # a cache that can only be read
                records.write(path, {**data, "sha256": checksums}, FORMAT)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(path) from error


def is_made_by_depmod(name: str) -> bool:
    """Whether a file below `lib/modules/<release>` is one that depmod writes.

    The kernel's `make modules_install` writes the rest (depmod(8), scripts/Makefile.modinst).
    """
    installed = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
    return name.startswith("modules.") and name not in installed


def _description(folder: Path) -> dict[str, Any]:
    """Return the content of kernel.json; DamagedError if it is missing or damaged."""
    path = folder / DESCRIPTION
    data = records.read(path, FORMAT) or records.read_unsealed(path, FORMAT)
    if data is None:
        raise _unreadable(path)
    return data


def _load_checksums(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path) from error


def _verify(folder: Path, checksums: Mapping[str, str], *, reread: bool) -> None:
    known = checked_files(folder / _CHECKED)
    found = {
        name: _measured(folder / name, expected, known.get(name), reread=reread)
        for name, expected in checksums.items()
    }
    if (now := {**known, **found}) != known:
        with contextlib.suppress(OSError):  # the files are read again each time
            keep_checked(folder / _CHECKED, now)


def _measured(
    path: Path, expected: str, known: Checked | None = None, *, reread: bool = False
) -> Checked:
    """Return the checked file; DamagedError if it does not have the expected checksum."""
    try:
        found = measure(path, known, reread=reread)
    except OSError as error:
        raise _unreadable(path) from error
    if found.sha256 != expected:
        raise _changed(path)
    return found


def _unreadable(path: Path) -> DamagedError:
    return DamagedError(f"{path.name} is missing or can't be read", f"It is {path}.")


def _changed(path: Path) -> DamagedError:
    return DamagedError(
        f"{path.name} does not have the checksum that it was stored with", f"It is {path}."
    )
