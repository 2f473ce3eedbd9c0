"""The `oci` source: kernels from images of container registries.

`fetch_image` is the whole way to a stored kernel. `resolve` asks a registry for an image, for one
architecture; `OciImage.download` fetches its layers. Whatever is taken has the digest that names
it: the manifest that of a pin or of the index, the layers those of the manifest.

oras does connections, cookies, and the exchange of tokens. The rest of its client is not used: it
repeats whatever failed with pauses of up to 83 s, sets no time-outs, checks no digests, and knows
no index, no HTTP basic authentication beside tokens, and no login of podman's.
"""

import base64
import ipaddress
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests
import urllib3
from oras.provider import Registry  # type: ignore[import-untyped]
from requests.adapters import HTTPAdapter

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.checksum import RunningSha256, sha256
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.oci import credentials
from bpfmatrix.kernels.oci.layers import find_kernel, merge, printable
from bpfmatrix.kernels.staging import install, upstream_version
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, require_space

__all__ = ["OciImage", "Reference", "fetch_image", "resolve", "resolve_again"]

_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
# "clients SHOULD support manifests of at least 4 MiB" (OCI distribution specification).
_MANIFEST_LIMIT_BYTES = 4 << 20
_OCI, _DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
_INDEXES = (f"{_OCI}index.v1+json", f"{_DOCKER}distribution.manifest.list.v2+json")
_MANIFESTS = (f"{_OCI}manifest.v1+json", f"{_DOCKER}distribution.manifest.v2+json")
_CONFIGS = (f"{_OCI}config.v1+json", f"{_DOCKER}container.image.v1+json")
_LAYER = re.compile(
    r"application/vnd\.oci\.image\.layer\.(nondistributable\.)?v1\.tar(\+(gzip|zstd))?"
    r"|application/vnd\.docker\.image\.rootfs\.(diff|foreign\.diff)\.tar(\.(gzip|zstd))?"
)


class _GoneError(KernelUnavailableError):
    """The registry has no such image."""


@dataclass(frozen=True)
class Reference:
    """The name of an image: `host/repository:tag`, pinned by a digest or not."""

    host: str
    repository: str
    tag: str
    digest: str
    plain: bool
    """Whether the registry is spoken to without TLS."""

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read what kernels.yaml has; its model checked the grammar.

        As with docker, no host means docker.io, and a registry of the loopback has no TLS.
        """
        bare = text.removeprefix("http://")
        bare, _, digest = bare.partition("@")
        host, slash, path = bare.partition("/")
        if not slash or not (set(".:") & set(host) or host == "localhost"):
            host, path = "docker.io", bare if slash else f"library/{bare}"
        repository, _, tag = path.partition(":")
        plain = text.startswith("http://") or _is_loopback(host)
        return cls(host, repository, tag or ("" if digest else "latest"), digest, plain)

    @property
    def name(self) -> str:
        """`ghcr.io/cilium/ci-kernels`."""
        return f"{self.host}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest[:19]}' if self.digest else ''}"

    @property
    def base_url(self) -> str:
        """Where its manifests and blobs are: the OCI distribution specification's `/v2/<name>/`."""
        host = "registry-1.docker.io" if self.host == "docker.io" else self.host
        return f"{'http' if self.plain else 'https'}://{host}/v2/{self.repository}"


def _is_loopback(host: str) -> bool:
    name = re.sub(r":\d+$", "", host).strip("[]")
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class _Blob:
    """What a manifest says of something else: a descriptor of the OCI image specification."""

    media_type: str
    digest: str
    size_bytes: int
    platform: str

    @classmethod
    def of(cls, data: Any, where: Reference) -> "_Blob":
        try:
            platform = data.get("platform") or {}
            made = cls(
                str(data["mediaType"]),
                str(data["digest"]),
                int(data["size"]),
                f"{platform.get('os')}/{platform.get('architecture')}" if platform else "",
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _unreadable(where) from None
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", made.digest):
            raise KernelUnavailableError(f"{where}: {made.digest[:80]!r} is no sha256 digest")
        return made


@dataclass(frozen=True)
class OciImage:
    """An image for one architecture, as its manifest describes it."""

    reference: Reference
    """As it was asked for."""
    digest: str
    """`sha256:...` of the manifest."""
    layers: tuple[_Blob, ...]
    _client: "_Client"

    @property
    def size_bytes(self) -> int:
        """Of all layers, as they are fetched."""
        return sum(layer.size_bytes for layer in self.layers)

    def download(self, folder: Path, progress: Progress = silent) -> list[Path]:
        """Fetch the layers into an empty folder, the lowest first; each has its digest."""
        text = f"{self.reference}: fetching {self.size_bytes / 1e6:.0f} MB"
        paths, before = [], 0
        for number, layer in enumerate(self.layers):
            progress(text, before / self.size_bytes if self.size_bytes else None)
            path = folder / str(number)
            with path.open("xb") as file:
                for chunk in self._client.blob(layer):
                    file.write(chunk)
                    done = before + file.tell()
                    progress(text, min(done / self.size_bytes, 1.0) if self.size_bytes else None)
            before += layer.size_bytes
            paths.append(path)
        return paths


def resolve(reference: Reference, arch: str, progress: Progress = silent) -> OciImage:
    """Ask the registry for an image; KernelUnavailableError says why it can't be had."""
    progress(f"{reference}: asking {reference.host}")
    client = _Client(reference)
    digest, manifest = client.manifest(reference.digest or reference.tag, reference.digest)
    if _media_type(manifest, reference) in _INDEXES:
        chosen = _for_platform(manifest, ARCHITECTURES[arch].oci_platform, reference)
        digest, manifest = client.manifest(chosen.digest, chosen.digest)
        kind = _media_type(manifest, reference)
        if kind not in _MANIFESTS:
            raise _unknown(reference, kind)
    else:
        _require_platform(client, manifest, ARCHITECTURES[arch].oci_platform, reference)
    entries = manifest.get("layers")
    if not isinstance(entries, list):
        raise _unreadable(reference)
    layers = tuple(_Blob.of(entry, reference) for entry in entries)
    for layer in layers:
        if not _LAYER.fullmatch(layer.media_type):
            raise _unknown(reference, layer.media_type)
    return OciImage(reference, digest, layers, client)


def resolve_again(
    reference: Reference, digest: str, arch: str, progress: Progress = silent
) -> OciImage:
    """Ask for the manifest that an image had before, or for the image if that one is gone."""
    try:
        same = resolve(replace(reference, digest=digest), arch, progress)
    except _GoneError:
        return resolve(reference, arch, progress)
    return replace(same, reference=reference)


def fetch_image(
    kernel: KernelConfig, reference: Reference, store: Store, progress: Progress, same: bool
) -> KernelImage:
    """Resolve an image, store its kernel unless it is there, and let `kernel` point at it.

    `same` asks for the manifest that it was taken from before, if the registry still has it.
    """
    before = store.resolved_packages(kernel) if same else ()
    if before:
        image = resolve_again(reference, f"sha256:{before[0].sha256}", kernel.arch, progress)
    else:
        image = resolve(reference, kernel.arch, progress)
    sha256 = image.digest.removeprefix("sha256:")
    packages = (Package(reference.name, reference.tag, sha256),)
    there = store.intact(kernel.arch, packages)
    if there and store.point(kernel, there):
        return there
    # Once as they are fetched, once unpacked, once with uncompressed modules; packed kernels and
    # modules are what such images consist of, and get about three times as large.
    require_space(store.cache.root, UNPACKED_KERNEL_BYTES + 7 * image.size_bytes)
    with store.cache.staging() as staging:
        for name in ("layers", "files", "root"):
            (staging / name).mkdir()
        paths = image.download(staging / "layers", progress)
        progress(f"{kernel.id}: unpacking {reference}")
        found = find_kernel(merge(paths, staging / "files"), kernel.id)
        name = f"{found.name} of {reference}"
        vmlinuz = install(found.vmlinuz, name, found.modules, found.config, staging / "root")
        source = f"oci {replace(reference, digest=image.digest)}"
        provenance = Provenance(source, packages)
        return store.add(kernel, staging, upstream_version(vmlinuz), provenance)


def _media_type(manifest: Mapping[str, Any], where: Reference) -> str:
    kind = manifest.get("mediaType")
    if "layers" in manifest and "manifests" in manifest:  # two readers might see two images
        raise _unreadable(where)
    if kind is None:  # it may be left out (OCI image specification, image-index.md)
        kind = _INDEXES[0] if "manifests" in manifest else _MANIFESTS[0]
    if kind not in _INDEXES + _MANIFESTS or manifest.get("schemaVersion") != 2:
        raise _unknown(where, str(kind))
    return str(kind)


def _for_platform(index: Mapping[str, Any], platform: str, where: Reference) -> _Blob:
    entries = index.get("manifests")
    found = [_Blob.of(entry, where) for entry in entries] if isinstance(entries, list) else []
    for entry in found:
        if entry.platform == platform:
            return entry
    # Attestations have the platform unknown/unknown.
    others = sorted({e.platform for e in found if "unknown" not in e.platform} - {""})
    raise _no_platform(where, platform, others)


def _require_platform(
    client: "_Client", manifest: Mapping[str, Any], platform: str, where: Reference
) -> None:
    """Compare with what the image's configuration says, where it says something."""
    config = _Blob.of(manifest.get("config"), where)
    if config.media_type not in _CONFIGS:  # an artifact: the kernel itself will tell
        return
    data = _parsed(b"".join(client.blob(config, _MANIFEST_LIMIT_BYTES)), where)
    own = f"{data.get('os')}/{data.get('architecture')}"
    if data.get("architecture") and own != platform:
        raise _no_platform(where, platform, [own])


class _Adapter(HTTPAdapter):
    """Connections that end: requests waits forever unless each request says how long."""

    def send(self, request: requests.PreparedRequest, **settings: Any) -> requests.Response:  # type: ignore[override]
        settings["timeout"] = settings.get("timeout") or (_CONNECT_SECONDS, _READ_SECONDS)
        return super().send(request, **settings)


class _Client:
    """Speaks to one repository of a registry."""

    def __init__(self, reference: Reference) -> None:
        # They print what is said better here: oras at any time, urllib3 where nox runs.
        logging.getLogger("oras.logger").setLevel(logging.CRITICAL)
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        self._reference = reference
        self._registry = Registry(hostname=reference.host, insecure=reference.plain)
        for scheme in ("http://", "https://"):
            self._registry.session.mount(scheme, _Adapter())
        self._login: credentials.Login | None = None
        self._found = False

    def manifest(self, name: str, digest: str) -> tuple[str, dict[str, Any]]:
        """Fetch a manifest or an index by tag or digest; returns its digest and what it says."""
        accept = ", ".join(_INDEXES + _MANIFESTS)
        with self._get(f"manifests/{name}", accept, self._reference) as response:
            data = b"".join(self._limited(response, _MANIFEST_LIMIT_BYTES))
            expected = digest or response.headers.get("Docker-Content-Digest", "")
        self._found = True
        found = f"sha256:{sha256(data)}"
        if expected.startswith("sha256:") and found != expected:
            raise _wrong_digest(self._reference, "a manifest", found, expected)
        return found, _parsed(data, self._reference)

    def blob(self, blob: _Blob, limit_bytes: int | None = None) -> Iterator[bytes]:
        """Give a blob's bytes; the last of them only if all have the digest."""
        if limit_bytes is not None and blob.size_bytes > limit_bytes:
            raise _unreadable(self._reference)
        digest, size = RunningSha256(), 0
        with self._get(f"blobs/{blob.digest}", "*/*", self._reference) as response:
            for chunk in self._limited(response, blob.size_bytes):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
        found = f"sha256:{digest.hexdigest()}"
        if size != blob.size_bytes or found != blob.digest:
            raise _wrong_digest(self._reference, "a layer", found, blob.digest)

    def _limited(self, response: requests.Response, limit_bytes: int) -> Iterator[bytes]:
        size = 0
        try:
            for chunk in response.iter_content(1 << 20):
                size += len(chunk)
                if size > limit_bytes:
                    raise KernelUnavailableError(
                        f"{self._reference}: {self._reference.host} sent more than the "
                        f"{limit_bytes} bytes that were expected"
                    )
                yield chunk
        except requests.RequestException as error:
            raise UnreachableError(
                f"{self._reference.host} closed the connection in the middle", _said(error)
            ) from error

    def _get(self, path: str, accept: str, asked: Reference) -> requests.Response:
        url = f"{asked.base_url}/{path}"
        # Digests are of what is stored, so nothing may pack it on its way.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        try:
            response = self._send(url, {**headers, **self._registry.auth.get_auth_header()})
            if response.status_code in (401, 403) and (login := self._authorization(response)):
                response.close()
                response = self._send(url, {**headers, **login})
        except requests.exceptions.SSLError as error:
            raise KernelUnavailableError(
                f"{asked.host} does not show a certificate that this host trusts", _said(error)
            ) from error
        except requests.RequestException as error:
            raise UnreachableError(f"{asked.host} can't be reached", _said(error)) from error
        if response.status_code != 200:
            raise self._explained(response)
        return response

    def _send(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        response: requests.Response = self._registry.session.get(
            url, headers=dict(headers), stream=True
        )
        return response

    def _authorization(self, response: requests.Response) -> dict[str, str]:
        """Return the header that the registry asks for, or nothing where there is no login."""
        auth = self._registry.auth
        if self._login is None:
            self._login = credentials.find(self._reference.host, self._reference.repository)
            if self._login:
                auth.set_basic_auth(self._login.user, self._login.secret)
        challenge = response.headers.get("Www-Authenticate", "")
        if challenge.lower().startswith("bearer "):
            try:
                headers, changed = auth.authenticate_request(response, {}, refresh=True)
            except (ValueError, TypeError, AttributeError):  # a challenge that oras can't read
                return {}
            return dict(headers) if changed else {}
        if challenge.lower().startswith("basic") and self._login:
            pair = f"{self._login.user}:{self._login.secret}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return {}

    def _explained(self, response: requests.Response) -> BpfmatrixError:
        host, status, said = self._reference.host, response.status_code, _message(response)
        if status in (401, 403):
            return self._denied(said)
        if status == 404:
            tag = f":{self._reference.tag}" if self._reference.tag else ""
            digest = f"@{self._reference.digest}" if self._reference.digest else ""
            image = f"{self._reference.repository}{tag}{digest}"
            if self._found:
                return _GoneError(f"{host} has {image}, but not all parts of it", said)
            return _GoneError(
                f"{host} has no {image}", f"Look at the image's tags at {host}. {said}".strip()
            )
        if status == 429:
            return KernelUnavailableError(
                f"{host} has had too many requests from here", f"Try again later. {said}".strip()
            )
        return UnreachableError(f"{host} answered with HTTP status {status}", said)

    def _denied(self, said: str) -> BpfmatrixError:
        host, login = self._reference.host, self._login
        how = f"Log in with `docker login {host}` or `podman login {host}`"
        if login:
            return KernelUnavailableError(
                f"{host} refused the login of {login.origin} for {self._reference.repository}",
                f"{how}, with a user who may read it. {said}".strip(),
            )
        problem = f" {login.problem}." if login is not None and login.problem else ""
        return KernelUnavailableError(
            f"{host} gives {self._reference.repository} only to those who are logged in, or does "
            "not have it",
            f"{how}.{problem} {said}".strip(),
        )


def _parsed(data: bytes, where: Reference) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _unreadable(where)
    return found


def _message(response: requests.Response) -> str:
    """Return the registry's own words (OCI distribution specification, "Error codes")."""
    try:
        data = json.loads(response.raw.read(4096, decode_content=True))
        said = printable(data["errors"][0]["message"], 200)
        return f"It said: {said.rstrip('.')}."
    except (ValueError, LookupError, TypeError, OSError, urllib3.exceptions.HTTPError):
        return ""
    finally:
        response.close()


def _said(error: Exception) -> str:
    """Return the innermost reason of requests' nested exceptions, which repeat whole objects."""
    text = str(error)
    for pattern in (
        r"\[Errno -?\d+\] ([^'\")]+)",
        r"(Tunnel connection failed: [^'\")]+)",
        r"(timed out)",
        r"(certificate verify failed[^'\")]*)",
    ):
        if match := re.search(pattern, text):
            return f"The reason: {match[1].strip()}."
    return ""


def _unreadable(where: Reference) -> KernelUnavailableError:
    return KernelUnavailableError(f"{where}: the registry's description of the image can't be read")


def _unknown(where: Reference, media_type: str) -> KernelUnavailableError:
    return KernelUnavailableError(
        f"{where} holds something of the unknown media type {printable(media_type, 100)}",
        "Expected are container images of Docker's or OCI's format, with tar layers that are "
        "plain, gzip or zstd.",
    )


def _wrong_digest(where: Reference, what: str, found: str, expected: str) -> KernelUnavailableError:
    return KernelUnavailableError(
        f"{where}: {what} that {where.host} sent does not have its digest",
        f"Expected was {expected}, and it is {found}. Nothing of it is kept.",
    )


def _no_platform(where: Reference, platform: str, others: Sequence[str]) -> KernelUnavailableError:
    return KernelUnavailableError(
        f"{where} has no kernel for {platform}",
        f"It is for {', '.join(others)}: set `arch` in kernels.yaml." if others else "",
    )
