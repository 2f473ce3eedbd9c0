"""A server with kernel.org's layout: tarballs, signed checksums, nginx on loopback."""

import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.kernels.archive import gpg

_NGINX = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
user root;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}/www; limit_rate {rate}; }}
}}
"""


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
class KernelOrg:
    """The folder that is served, and its server."""

    folder: Path
    key_home: Path
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, version: str, tarball: bytes | Path) -> Path:
        """Add a release; `publish` makes it known."""
        series = self.folder / f"www/v{version.partition('.')[0]}.x"
        series.mkdir(parents=True, exist_ok=True)
        path = series / f"linux-{version.removesuffix('.0')}.tar.xz"
        if isinstance(tarball, Path):
            shutil.copyfile(tarball, path)
        else:
            path.write_bytes(tarball)
        return path

    def publish(self) -> None:
        """Sign the checksums of what is there."""
        for series in (self.folder / "www").iterdir():
            sums = series / "sha256sums"
            sums.write_text(
                "".join(
                    f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
                    for path in sorted(series.glob("*.tar.xz"))
                )
            )
            signed = str(series / "sha256sums.asc")
            gpg(self.key_home, "--output", signed, "--clearsign", str(sums))

    def start(self, rate: str = "0") -> None:
        """Start the server; `rate` is nginx's limit for a connection, in bytes a second."""
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        config = self.folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=self.folder, port=self.port, rate=rate))
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert nginx, "apt-get install nginx-light"
        self.process = subprocess.Popen(
            [nginx, "-c", config, "-e", self.folder / "error.log"], stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((self.folder / "error.log").read_text())

    def stop(self) -> None:
        """Close every connection."""
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def statuses(self, name: str) -> list[int]:
        """Return the HTTP statuses with which a file was sent, in their order."""
        log = (self.folder / "access.log").read_text()
        return [int(line.split('"')[2].split()[0]) for line in log.splitlines() if name in line]
