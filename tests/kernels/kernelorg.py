"""A server with kernel.org's layout: tarballs and signed checksums, by nginx on loopback."""

import hashlib
import io
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.kernels.archive import gpg
from tests.nginx import Nginx


def source_tree(version: str, ballast: bytes = b"") -> bytes:
    """Return a tarball of what begins like a kernel's tree: enough to be fetched and unpacked."""
    major, minor, patch = version.split(".")
    files = {
        "Makefile": f"VERSION = {major}\nPATCHLEVEL = {minor}\nSUBLEVEL = {patch}\n"
        "EXTRAVERSION =\n".encode(),
        "Kconfig": b'mainmenu "Linux"\n',
        "ballast": ballast,
    }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:xz", preset=0) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"linux-{version}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@dataclass
class KernelOrg(Nginx):
    """The server; `key_home` is the home of gpg with the key that signs its checksums."""

    key_home: Path = Path()

    def put(self, version: str, tarball: bytes | Path) -> Path:
        """Add a release; `publish` makes it known."""
        series = self.root / f"v{version.partition('.')[0]}.x"
        series.mkdir(parents=True, exist_ok=True)
        path = series / f"linux-{version.removesuffix('.0')}.tar.xz"
        if isinstance(tarball, Path):
            shutil.copyfile(tarball, path)
        else:
            path.write_bytes(tarball)
        return path

    def publish(self) -> None:
        """Sign the checksums of what is there."""
        for series in self.root.iterdir():
            sums = series / "sha256sums"
            sums.write_text(
                "".join(
                    f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
                    for path in sorted(series.glob("*.tar.xz"))
                )
            )
            signed = str(series / "sha256sums.asc")
            gpg(self.key_home, "--output", signed, "--clearsign", str(sums))
