"""A container registry: Debian's docker-registry on loopback, and images pushed into it."""

import base64
import gzip
import hashlib
import io
import json
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
import zstandard

from bpfmatrix.oci.layers import ImageFolder

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"
USER, PASSWORD = "somebody", "secret word"
# Of PASSWORD, by bcrypt, which is all that the registry takes.
HTPASSWD = "somebody:$2b$04$I1AsH1RdqoxIA21w/5LTReQZxM.vIWs9C5SBDyyuV6gtUmTBh1iHC"


@dataclass
class Descriptor:
    """What a manifest says of a blob."""

    media_type: str
    data: bytes
    platform: Mapping[str, str] | None = None

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    def as_json(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.data),
        }
        return made | ({"platform": dict(self.platform)} if self.platform else {})


# A file by its name and content, or whatever other entry, with its content if it is a file.
Entry = tarfile.TarInfo | tuple[str | tarfile.TarInfo, bytes]


def layer(entries: Iterable[Entry], packed: str = "gzip") -> Descriptor:
    """Make a layer of files (name, content) and of whatever other entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0]) if isinstance(entry[0], str) else entry[0]
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    data = buffer.getvalue()
    match packed:
        case "gzip":
            return Descriptor(f"{OCI}.layer.v1.tar+gzip", gzip.compress(data, 1))
        case "zstd":
            return Descriptor(f"{OCI}.layer.v1.tar+zstd", zstandard.compress(data, 1))
    return Descriptor(f"{OCI}.layer.v1.tar", data)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Make an entry that is no file: a link, a folder, a device."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def stored(folder: Path, layers: Sequence[Iterable[Entry] | Descriptor]) -> list[Path]:
    """Write layers to files of a new folder, and return these."""
    folder.mkdir(parents=True)
    for number, part in enumerate(layers):
        data = (part if isinstance(part, Descriptor) else layer(part)).data
        (folder / str(number)).write_bytes(data)
    return [folder / str(number) for number in range(len(layers))]


def files_of(root: ImageFolder) -> dict[str, bytes]:
    """Return the contents of all files that were extracted."""
    return {name: path.read_bytes() for name, path in root.files()}


def tree(folder: Path, prefix: str = "") -> list[Entry]:
    """Return the files of a folder as entries of a layer."""
    return [
        (prefix + str(path.relative_to(folder)), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


@dataclass
class Registry:
    """A running registry. `login` lets it ask for one, by HTTP's basic authentication."""

    root: Path
    login: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""

    def __enter__(self) -> "Registry":
        self.root.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()
        return self

    def start(self) -> None:
        """Start it, on the port that it had before."""
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.root / "storage")}},
            "http": {"addr": f"127.0.0.1:{self.port}"},
            **self.settings,
        }
        if self.login:
            (self.root / "htpasswd").write_text(f"{HTPASSWD}\n")
            config["auth"] = {"htpasswd": {"realm": "here", "path": str(self.root / "htpasswd")}}
        (self.root / "config.json").write_text(json.dumps(config))  # JSON is YAML
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(self.root / "config.json")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._is_listening = threading.Event()
        threading.Thread(target=self._read_log, daemon=True).start()
        assert self._is_listening.wait(30), self.log

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log += line
            if "listening on" in line:
                self._is_listening.set()

    def stop(self) -> None:
        """End it: from here on nothing listens on its port."""
        self._process.kill()
        self._process.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def _request(self, method: str, url: str, **more: Any) -> requests.Response:
        auth = (USER, PASSWORD) if self.login else None
        response = requests.request(method, url, auth=auth, timeout=60, **more)
        assert response.ok, f"{url}: {response.status_code} {response.text}"
        return response

    def blob(self, repository: str, blob: Descriptor) -> None:
        """Push a blob."""
        started = self._request("POST", f"{self.url}/v2/{repository}/blobs/uploads/")
        place = started.headers["Location"]
        self._request("PUT", place, params={"digest": blob.digest}, data=blob.data)

    def manifest(self, repository: str, name: str, data: Mapping[str, Any]) -> Descriptor:
        """Push a manifest or an index under a tag, or under its digest if that is empty."""
        made = Descriptor(data["mediaType"], json.dumps(data).encode())
        self._request(
            "PUT",
            f"{self.url}/v2/{repository}/manifests/{name or made.digest}",
            data=made.data,
            headers={"Content-Type": made.media_type},
        )
        return made

    def image(
        self,
        repository: str,
        tag: str,
        layers: Sequence[Descriptor],
        arch: str = "amd64",
        docker: bool = False,
    ) -> Descriptor:
        """Push an image; returns what an index says of it."""
        config = Descriptor(
            f"{DOCKER}.container.image.v1+json" if docker else f"{OCI}.config.v1+json",
            json.dumps({"os": "linux", "architecture": arch, "rootfs": {}}).encode(),
        )
        for blob in (config, *layers):
            self.blob(repository, blob)
        kind = f"{DOCKER}.distribution.manifest.v2+json" if docker else f"{OCI}.manifest.v1+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": config.as_json(),
            "layers": [layer.as_json() for layer in layers],
        }
        made = self.manifest(repository, tag, manifest)
        made.platform = {"os": "linux", "architecture": arch}
        return made

    def index(self, repository: str, tag: str, images: Sequence[Descriptor]) -> Descriptor:
        """Push an index of images that are there."""
        kind = f"{OCI}.index.v1+json"
        entries = [image.as_json() for image in images]
        return self.manifest(
            repository, tag, {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
        )

    def stored(self, digest: str) -> Path:
        """Return the file that the registry keeps a blob in."""
        name = digest.removeprefix("sha256:")
        return self.root / "storage/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"


def login_file(path: Path, key: str, password: str = PASSWORD) -> Path:
    """Write the login of USER for a registry, as docker keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {key: {"auth": auth}}}))
    return path


class TokenServer:
    """Gives tokens for a registry, as ghcr.io does (distribution's spec/auth/token.md).

    Whoever asks may pull what lies below `public/`; USER may pull everything.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._key, self._certificate = folder / "key.pem", folder / "certificate.pem"
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-subj",
                    "/CN=tokens",
                ),
                *("-days", "2", "-keyout", str(self._key), "-out", str(self._certificate)),
            ],
            check=True,
            capture_output=True,
        )
        self.asked: list[tuple[str, str]] = []
        self.actions = {"pull", "push"}
        """What anybody may do at most."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _TokenHandler)
        self._server.tokens = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def settings(self) -> dict[str, Any]:
        """What the registry is told."""
        token = {
            "realm": f"http://127.0.0.1:{self._server.server_address[1]}/token",
            "service": "registry",
            "issuer": "tokens",
            "rootcertbundle": str(self._certificate),
        }
        return {"auth": {"token": token}}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, user: str, scope: str) -> str:
        """Return a JSON web token (RFC 7519), signed with RS256."""
        self.asked.append((user, scope))
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        wanted = actions.split(",") if user or name.startswith("public/") else []
        granted = [action for action in wanted if action in self.actions]
        der = "".join(self._certificate.read_text().splitlines()[1:-1])
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": "tokens",
            "sub": user,
            "aud": "registry",
            "jti": str(len(self.asked)),
        }
        claims |= {"iat": now, "nbf": now - 5, "exp": now + 300}
        claims["access"] = [{"type": kind, "name": name, "actions": granted}]
        parts = [
            _web_base64(json.dumps(part).encode())
            for part in ({"typ": "JWT", "alg": "RS256", "x5c": [der]}, claims)
        ]
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self._key)],
            input=".".join(parts).encode(),
            check=True,
            capture_output=True,
        ).stdout
        return ".".join([*parts, _web_base64(signature)])


def _web_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class _TokenHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        tokens: TokenServer = self.server.tokens  # type: ignore[attr-defined]
        user = ""
        if given := self.headers.get("Authorization"):
            user, _, password = base64.b64decode(given.split()[1]).decode().partition(":")
            if (user, password) != (USER, PASSWORD):
                self.send_error(401)
                return
        (scope,) = parse_qs(urlsplit(self.path).query)["scope"]
        body = json.dumps({"token": tokens.token(user, scope)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
