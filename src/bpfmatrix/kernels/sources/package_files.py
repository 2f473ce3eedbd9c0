"""Package files, `.deb` and `.rpm`: what they say they are, and the kernel in them.

`store_kernel` is the last step of every source that ends in packages.
"""

import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, ToolMissingError
from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.host.front_end import command
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.formats import deb
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.staging import depmod, write
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, require_space

__all__ = ["describe", "provenance", "store_kernel", "unpack"]

_PACKED = (".gz", ".xz", ".zst", ".bz2", ".lzma", ".lz4")
_RPM = b"\xed\xab\xee\xdb"  # rpm's lib/rpmlead.h, `lead_magic`


def store_kernel(
    kernel: KernelConfig,
    store: Store,
    obtain: Callable[[Path], list[Path]],
    size_bytes: int,
    describe: Callable[[list[Path]], tuple[str, Provenance]],
    progress: Progress,
) -> KernelImage:
    """Unpack the kernel in some packages, store it, and let `kernel` point at it.

    `obtain` returns the package files; it may put them into the empty folder that it is given.
    `size_bytes` is the space that they need there and unpacked. `describe` returns the kernel's
    upstream version and its provenance.
    """
    require_space(store.cache.root, UNPACKED_KERNEL_BYTES + size_bytes)
    with store.cache.staging() as staging:
        for name in ("packages", "root"):
            (staging / name).mkdir()
        files = obtain(staging / "packages")
        version, origin = describe(files)
        progress(f"{kernel.id}: unpacking {origin.packages[0].name}")
        unpack(files, staging / "root")
        return store.add(kernel, staging, version, origin)


def provenance(source: str, files: Sequence[Path]) -> Provenance:
    """Return where a kernel came from, as its packages describe themselves."""
    described = [describe(path) for path in files]
    return Provenance(source, tuple(package for package, _ in described), described[0][1])


def describe(path: Path) -> tuple[Package, str]:
    """Return what a package says about itself, and its vendor (empty for a `.deb`)."""
    sha256 = sha256_of(path)
    if _kind(path) == deb.MAGIC:
        fields = deb.control(path)
        return Package(fields["Package"], fields["Version"], sha256), ""
    query = "%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{VENDOR}"
    # The caller has checked the signature or a checksum. rpm would only warn of an unknown key.
    text = _output(
        ["rpm", "--query", "--nosignature", "--queryformat", query, "--package", "--", path]
    )
    name, version, vendor = text.split("\t")
    # `SUSE LLC <https://www.suse.com/>`, or "(none)" for a package without a vendor.
    vendor = re.sub(r"\s*<.*|^\(none\)$", "", vendor.strip())
    return Package(name, version, sha256), vendor


def unpack(packages: Sequence[Path], root: Path) -> None:
    """Extract `vmlinuz`, `config` and `lib/modules/<release>` from packages, and run depmod."""
    for path in packages:
        if _kind(path) == deb.MAGIC:
            with deb.data(path) as archive:
                _extract(archive, root)
        else:
            _take(["rpm2archive", "--nocompression", "-"], path, root)
    vmlinux = root / "vmlinux"
    if vmlinux.exists() and not (root / "vmlinuz").exists():
        vmlinux.rename(root / "vmlinuz")
    vmlinux.unlink(missing_ok=True)
    if not (root / "vmlinuz").exists():
        raise KernelUnavailableError(
            f"{', '.join(path.name for path in packages)}: there is no kernel in it",
            "Name a package that holds a kernel's image, /boot/vmlinuz-... or "
            f"/lib/modules/.../vmlinuz: `{command('kernels.search TEXT')}` lists Debian's.",
        )
    for release in (root / "lib/modules").glob("*"):
        depmod(root, release.name)


def _kind(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(8)
    for magic in (deb.MAGIC, _RPM):
        if head.startswith(magic):
            return magic
    raise BpfmatrixError(
        f"{path.name} is not a package: it begins neither like a .deb nor like an .rpm",
        "A download may have ended at an error page: look into the file.",
    )


def _output(command: Sequence[str | Path]) -> str:
    _require(str(command[0]))
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
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
        raise ToolMissingError(f"{tool} is not installed", "Install the package rpm.")


def _take(command: Sequence[str], path: Path, root: Path) -> None:
    """Extract what is needed from the tar archive that a command makes of a package."""
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
                _extract(archive, root)
            process.stdout.read()  # the archive's padding
        # ValueError, as tarfile does not catch it for all malformed numbers and names.
        except (tarfile.TarError, EOFError, ValueError) as error:
            process.kill()
            said = process.stderr.read().decode(errors="replace")
            raise _unreadable(path, said or str(error)) from error
        except BaseException:
            process.kill()  # it would wait for a reader
            raise
        said = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise _unreadable(path, said)


def _extract(archive: tarfile.TarFile, root: Path) -> None:
    """Extract what is needed from a tar archive into the staging root."""
    for member in archive:
        if member.isreg() and (target := _target(member.name)):
            file = archive.extractfile(member)
            assert file is not None
            write(root / target, file)


def _target(name: str) -> str | None:
    """Return the path of a package's file in the staging root, or None if it is not needed."""
    parts = PurePosixPath(name).parts  # a leading "./" is dropped by PurePosixPath
    if parts[:1] == ("usr",):
        parts = parts[1:]
    match parts:
        # Where the kernel is not compressed, Debian's packages call it vmlinux. A packed vmlinux,
        # which SUSE's have beside the vmlinuz, is for debuggers.
        case ("boot", file) if file.startswith(("vmlinuz-", "vmlinux-")):
            kernel = file[: len("vmlinuz")]
            return None if kernel == "vmlinux" and file.endswith(_PACKED) else kernel
        case ("boot", file) if file.startswith("config-"):
            return "config"
        case ("lib", "modules", _, "vmlinuz" | "vmlinux" as file):
            return file
        case ("lib", "modules", _, "config"):
            return "config"
        # Device trees are for boards, and QEMU's machine is none of them.
        case ("lib", "modules", _, first, *_) if first not in {"System.map", "dtb"}:
            return None if ".." in parts else str(PurePosixPath(*parts))
    return None
