"""Packages as files, `.deb` and `.rpm`: what they say they are, and the kernel in them.

`describe` and `unpack` serve every source that ends in packages; `fetch_files` is the `package`
source, which is given such files by their paths or addresses.
"""

import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import PackageSource
from bpfmatrix.config.value_types import is_url
from bpfmatrix.errors import BpfmatrixError, DamagedError, KernelUnavailableError, ToolMissingError
from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.host.progress import Progress
from bpfmatrix.host.versions import upstream
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.sources.download import download
from bpfmatrix.kernels.staging import depmod, write
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, require_space

__all__ = ["describe", "fetch_files", "is_current", "unpack"]

# deb(5): a package is an ar archive; rpm's lib/rpmlead.h, `lead_magic`.
_DEB, _RPM = b"!<arch>\n", b"\xed\xab\xee\xdb"
# A kernel's packages unpack to three to five times their size.
_UNPACKED_TIMES = 5


def describe(path: Path, sha256: str | None = None) -> tuple[Package, str]:
    """Return what a package says about itself, and its vendor (empty for a `.deb`)."""
    sha256 = sha256 or sha256_of(path)
    if _kind(path) == _DEB:
        text = _output(["dpkg-deb", "--show", "--showformat", "${Package}\t${Version}", path])
        name, version = text.split("\t")
        return Package(name, version, sha256), ""
    query = "%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{VENDOR}"
    # Whoever asks has checked the signature, or a checksum; rpm would only warn of an unknown key.
    text = _output(["rpm", "--query", "--nosignature", "--queryformat", query, "--package", path])
    name, version, vendor = text.split("\t")
    # `SUSE LLC <https://www.suse.com/>`; a package without a vendor has the text "(none)".
    vendor = re.sub(r"\s*<.*|^\(none\)$", "", vendor.strip())
    return Package(name, version, sha256), vendor


def unpack(packages: Sequence[Path], root: Path) -> None:
    """Take `vmlinuz`, `config` and `lib/modules/<release>` out of packages, and run depmod."""
    for path in packages:
        # These know every compression that a package's data may have; tarfile does not.
        if _kind(path) == _DEB:
            _take(["dpkg-deb", "--fsys-tarfile", str(path)], path, root)
        else:
            _take(["rpm2archive", "--nocompression", "-"], path, root)
    if not (root / "vmlinuz").exists():
        raise KernelUnavailableError(
            f"{', '.join(path.name for path in packages)}: there is no kernel in it",
            "Name a package that holds a kernel's image, /boot/vmlinuz-... or "
            "/lib/modules/.../vmlinuz: `invoke kernels.search TEXT` lists Debian's.",
        )
    for release in (root / "lib/modules").glob("*"):
        depmod(root, release.name)


def _kind(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(8)
    for magic in (_DEB, _RPM):
        if head.startswith(magic):
            return magic
    raise BpfmatrixError(
        f"{path.name} is no package: it begins like neither a .deb nor an .rpm",
        "A download may have ended at a page that says so; look into the file.",
    )


def _output(command: Sequence[str | Path]) -> str:
    _require(str(command[0]))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _unreadable(Path(command[-1]), done.stderr)
    return done.stdout


def _unreadable(path: Path, said: str) -> BpfmatrixError:
    last = said.strip().splitlines()[-1:] or ["nothing"]
    return BpfmatrixError(
        f"the package {path.name} can't be read", f"It is damaged or incomplete: {last[0][-200:]}"
    )


def _require(tool: str) -> None:
    if shutil.which(tool) is None:
        package = "dpkg" if tool.startswith("dpkg") else "rpm"
        raise ToolMissingError(f"{tool} is not installed", f"Install the package {package}.")


def _take(command: Sequence[str], path: Path, root: Path) -> None:
    """Write what is needed of the tar archive that a command makes of a package."""
    _require(command[0])
    with (
        path.open("rb") as package,
        subprocess.Popen(
            command, stdin=package, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    if member.isreg() and (target := _target(member.name)):
                        file = archive.extractfile(member)
                        assert file is not None
                        write(root / target, file)
            process.stdout.read()  # the archive's padding
        except (tarfile.TarError, EOFError) as error:
            process.kill()
            said = process.stderr.read().decode(errors="replace")
            raise _unreadable(path, said or str(error)) from error
        said = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise _unreadable(path, said)


def _target(name: str) -> str | None:
    """Return where a package's file belongs in an image, or None for one that is not needed."""
    parts = PurePosixPath(name).parts  # a leading "./" is dropped by PurePosixPath
    if parts[:1] == ("usr",):
        parts = parts[1:]
    match parts:
        case ("boot", file) if file.startswith("vmlinuz-"):
            return "vmlinuz"
        case ("boot", file) if file.startswith("config-"):
            return "config"
        case ("lib", "modules", _, "vmlinuz" | "config" as file):
            return file
        # Device trees are for boards, which no machine here is.
        case ("lib", "modules", _, first, *_) if first not in {"System.map", "dtb"}:
            return None if ".." in parts else str(PurePosixPath(*parts))
    return None


def fetch_files(
    kernel: KernelConfig, source: PackageSource, store: Store, progress: Progress
) -> KernelImage:
    """Store the kernel of a `package` source, unless it is there, and let `kernel` point at it."""
    checksums = source.sha256 or [None] * len(source.files)
    known = [
        sha256 or sha256_of(_file(kernel, name))
        for name, sha256 in zip(source.files, checksums, strict=True)
    ]
    if (image := _stored(kernel, store, known)) and store.point(kernel, image):
        return image
    with store.cache.staging() as staging:
        paths = [
            _obtain(kernel, name, sha256, staging / f"{number}", progress)
            for number, (name, sha256) in enumerate(zip(source.files, known, strict=True))
        ]
        size_bytes = sum(path.stat().st_size for path in paths)
        require_space(store.cache.root, UNPACKED_KERNEL_BYTES + _UNPACKED_TIMES * size_bytes)
        described = [describe(*file) for file in zip(paths, known, strict=True)]
        packages = tuple(package for package, _ in described)
        (staging / "root").mkdir()
        progress(f"{kernel.id}: unpacking {packages[0].name}")
        unpack(paths, staging / "root")
        provenance = Provenance("package", packages, described[0][1])
        return store.add(kernel, staging, upstream(packages[0].version), provenance)


def is_current(kernel: KernelConfig, source: PackageSource, image: KernelImage) -> bool:
    """Whether the image was taken from the files as they are now; one that is gone is no matter."""
    for name, package in zip(source.files, image.provenance.packages, strict=False):
        path = kernel.root / Path(name).expanduser()
        if not is_url(name) and path.is_file() and sha256_of(path) != package.sha256:
            return False
    return True


def _file(kernel: KernelConfig, name: str) -> Path:
    path = kernel.root / Path(name).expanduser()
    if not path.is_file():
        raise KernelUnavailableError(
            f"{path}: no such file", f"kernels.{kernel.id}.source.package.files names it."
        )
    return path


def _stored(kernel: KernelConfig, store: Store, checksums: Iterable[str]) -> KernelImage | None:
    wanted = list(checksums)
    for image in store.images():
        found = [package.sha256 for package in image.provenance.packages]
        if image.arch == kernel.arch and image.provenance.source == "package" and found == wanted:
            try:
                image.verify()
            except DamagedError:
                return None
            return image
    return None


def _obtain(kernel: KernelConfig, name: str, sha256: str, folder: Path, progress: Progress) -> Path:
    """Return a file that has the checksum: fetched into a new folder if it is an address."""
    if not is_url(name):
        path = _file(kernel, name)
    else:
        folder.mkdir()
        path = folder / (PurePosixPath(name.partition("?")[0]).name or "package")
        download(name, path, progress)
    found = sha256_of(path)
    if found != sha256:
        raise KernelUnavailableError(
            f"{name} has the SHA-256 {found}, not that of kernels.yaml",
            f"Expected is {sha256}: either the file is another one now, or that is mistyped.",
        )
    return path
