"""A small Debian archive: real packages, a real index, a real signature, a real web server."""

import functools
import hashlib
import os
import subprocess
import threading
import time
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any


def gpg(home: Path, *arguments: str) -> None:
    command = ["gpg", "--homedir", str(home), "--batch", "--yes", "--quiet", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def make_key(home: Path) -> Path:
    """Make a signing key; return the keyring that holds its public half."""
    home.mkdir(mode=0o700, exist_ok=True)
    who = "archive@example.org"
    gpg(home, "--passphrase", "", "--quick-gen-key", who, "ed25519", "sign", "never")
    gpg(home, "--output", str(home / "public.gpg"), "--export", who)
    return home / "public.gpg"


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        archive = self.server.archive  # type: ignore[attr-defined]
        archive.requests.append(self.path)
        if self.path.endswith(".deb"):
            archive.deb_was_asked_for.set()
            archive.debs_may_go.wait(30)
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Archive:
    """One suite on loopback. `publish` writes its index again."""

    root: Path
    key_home: Path
    suite: str = "bookworm-security"
    label: str = "Debian"
    component: str = "main"
    published: int = 0
    requests: list[str] = field(default_factory=list)
    debs_may_go: threading.Event = field(default_factory=threading.Event)
    deb_was_asked_for: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Archive":
        self.debs_may_go.set()
        (self.root / "pool").mkdir(parents=True, exist_ok=True)
        handler = functools.partial(_Handler, directory=str(self.root))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.archive = self  # type: ignore[attr-defined]
        # The interval is what `shutdown` waits for.
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port: from here on the archive can't be reached."""
        self.debs_may_go.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def add(
        self, name: str, version: str, files: dict[str, bytes] | None = None, depends: str = ""
    ) -> Path:
        """Build a package into the pool."""
        tree = self.root / "build" / f"{name}_{version}"
        for path, data in (files or {}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
        control += f"Depends: {depends}\n" if depends else ""
        control += "Maintainer: Some One <someone@example.org>\nDescription: a kernel\n"
        (tree / "DEBIAN/control").write_text(control)
        deb = self.root / "pool" / f"{name}_{version}_amd64.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "-b", str(tree), str(deb)]
        subprocess.run(command, check=True, capture_output=True)
        return deb

    def publish(
        self,
        sign: bool = True,
        valid_seconds: float | None = None,
        age_seconds: float = 0,
        fields: str = "",
    ) -> None:
        """Write Packages and (In)Release of what is in the pool; `valid_seconds` is from now.

        `fields` are further lines of the Release file, which is dated `age_seconds` ago.
        """
        stanzas = []
        for deb in sorted((self.root / "pool").glob("*.deb")):
            control = subprocess.run(
                ["dpkg-deb", "-f", str(deb)], check=True, capture_output=True, text=True
            ).stdout.strip()
            data = deb.read_bytes()
            stanzas.append(
                f"{control}\nFilename: pool/{deb.name}\nSize: {len(data)}\n"
                f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        suite = self.root / "dists" / self.suite
        index = suite / self.component / "binary-amd64/Packages"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_text("\n".join(stanzas))
        data = index.read_bytes()

        def date(seconds: float) -> str:
            return time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime(seconds))

        end = f"Valid-Until: {date(time.time() + valid_seconds)}\n" if valid_seconds else ""
        release = suite / "Release"
        release.write_text(
            f"Origin: {self.label}\nLabel: {self.label}\nSuite: {self.suite}\n"
            f"Codename: {self.suite}\nDate: {date(time.time() - age_seconds)}\n{end}{fields}"
            f"Architectures: amd64\nComponents: {self.component}\nSHA256:\n"
            f" {hashlib.sha256(data).hexdigest()} {len(data)} {index.relative_to(suite)}\n"
        )
        (suite / "InRelease").unlink(missing_ok=True)
        if sign:
            gpg(self.key_home, "--output", f"{suite}/InRelease", "--clearsign", str(release))
            # apt asks for what is newer than what it has, in whole seconds.
            self.published += 1
            os.utime(suite / "InRelease", (time.time(), time.time() + self.published))
