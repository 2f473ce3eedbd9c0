"""A client for one repository of a container registry (OCI distribution specification).

It fetches manifests and blobs, compares each with its digest, and pushes both. oras keeps the
connections and exchanges logins for tokens. The rest of its client is not used (0.2.43): it retries
every failure with pauses of up to 83 s, reads a whole file into memory to push it, sets no
time-outs, checks no digests, and knows no index, no HTTP basic authentication without tokens, and
no login that podman stored. Retries and time-outs, and the downloads of blobs, are those of
`host.download`.
"""

import base64
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from oras.provider import Registry  # type: ignore[import-untyped]
from urllib3.exceptions import MaxRetryError

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError
from bpfmatrix.host import download
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.download import BytesProgress
from bpfmatrix.oci import credentials, manifests
from bpfmatrix.oci.layers import printable
from bpfmatrix.oci.manifests import BLOB, MANIFEST, Descriptor, Kind
from bpfmatrix.oci.reference import Reference

__all__ = ["GoneError", "RegistryClient"]

# "clients SHOULD support manifests of at least 4 MiB" (OCI distribution specification).
_SMALL_BYTES = 4 << 20
# How many tags are asked for at once, and after how many pages a registry is left that never ends.
_TAGS_OF_A_PAGE = 1000
_MOST_PAGES = 100
_NAMES = {MANIFEST: "a manifest", BLOB: "a part"}


def _unseen(there: int, total: int) -> None:
    """Show nothing."""


class GoneError(KernelUnavailableError):
    """The registry has no such image."""


class RegistryClient:
    """Fetches and pushes the parts of one image."""

    def __init__(self, reference: Reference, *, may_push: bool = False) -> None:
        # oras logs what the errors of this class already say.
        logging.getLogger("oras.logger").setLevel(logging.CRITICAL)
        self._reference = reference
        self._registry = Registry(hostname=reference.host, insecure=reference.plain)
        download.prepare(self._registry.session)
        self._login: credentials.Login | None = None
        self._found_a_manifest = False
        self._may_push = may_push

    def read(self, kind: Kind, name: str, digest: str) -> bytes:
        """See `ImageStore`; GoneError if there is no such object."""
        accept = ", ".join(manifests.INDEXES + manifests.MANIFESTS) if kind == MANIFEST else "*/*"
        path, declared = f"{kind}/{name}", ""

        def send(headers: Mapping[str, str]) -> requests.Response:
            nonlocal declared
            response = self._request("GET", path, {**headers, "Accept": accept})
            declared = response.headers.get("Docker-Content-Digest", "")
            return response

        try:
            data = download.read(self._url(path), None, _SMALL_BYTES, send)
        except (download.ContentError, download.TransferError) as error:
            raise self._explained_transfer(error, None) from error
        self._found_a_manifest = True
        expected, found = digest or declared, f"sha256:{sha256(data)}"
        if expected.startswith("sha256:") and found != expected:
            raise self._wrong_digest(_NAMES[kind], f"it is {found}", expected)
        return data

    def tags(self) -> tuple[str, ...]:
        """Return all tags of the repository, in the registry's order.

        A registry gives them in pages ("Listing Tags" of the specification).
        """
        found: list[str] = []
        path = f"tags/list?n={_TAGS_OF_A_PAGE}"
        for _ in range(_MOST_PAGES):
            following: str | None = None

            def send(headers: Mapping[str, str], path: str = path) -> requests.Response:
                nonlocal following
                response = self._request("GET", path, {**headers, "Accept": "application/json"})
                following = response.links.get("next", {}).get("url")
                return response

            try:
                data = download.read(self._url(path), None, _SMALL_BYTES, send)
                page = manifests.loads(data).get("tags") or []
                found += [tag for tag in page if isinstance(tag, str)]
                # The link may name another host, to which no login may be sent: only its query
                # counts.
                path = f"tags/list?{urlsplit(following or '').query}"
            except (download.ContentError, download.TransferError) as error:
                raise self._explained_transfer(error, None) from error
            except (ValueError, AttributeError, TypeError) as error:
                raise KernelUnavailableError(
                    f"{self._reference.host} has no readable list of the tags of "
                    f"{self._reference.repository}"
                ) from error
            if following is None:
                break
        return tuple(found)

    def fetch_blob(self, blob: Descriptor, target: Path, progress: BytesProgress) -> None:
        """Fetch a blob into a file. A transfer that breaks off is resumed."""
        path = f"blobs/{blob.digest}"
        send = partial(self._request, "GET", path)
        try:
            download.fetch(
                self._url(path), target, blob.sha256, blob.size_bytes, progress, send=send
            )
        except (download.ContentError, download.TransferError) as error:
            raise self._explained_transfer(error, blob) from error
        if (size := target.stat().st_size) != blob.size_bytes:
            raise self._wrong_digest("a layer", f"it has {size} bytes", blob.digest)

    def push_manifest(self, name: str, data: bytes, media_type: str) -> bool:
        """Push a manifest or an index under a tag, or under its digest.

        Returns whether the registry lists it among the referrers of its `subject` by itself.
        """
        headers = {"Content-Type": media_type}
        with self._request("PUT", f"manifests/{name}", headers, data, (200, 201)) as response:
            return "OCI-Subject" in response.headers

    def push_blob(
        self, blob: Descriptor, content: Path | bytes, progress: BytesProgress = _unseen
    ) -> bool:
        """Push a blob, unless it is there; return whether it was sent.

        An upload that breaks off is begun again: the distribution registry, which most others are
        made of, refuses to go on with one of which it has a part.
        """
        with self._request("HEAD", f"blobs/{blob.digest}", ok=(200, 404)) as response:
            if response.status_code == 200:
                return False
        retries = download.retries()
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            while True:
                try:
                    # As docker and crane do it, and so what every registry takes: POST, PATCH, PUT.
                    place = self._upload("POST", "blobs/uploads/")
                    place = self._upload("PATCH", place, _Upload(file, blob.size_bytes, progress))
                    joint = "&" if "?" in place else "?"
                    self._upload("PUT", f"{place}{joint}digest={blob.digest}")
                    return True
                except UnreachableError as error:
                    try:
                        retries = retries.increment("PATCH", self._url(""), error=error)
                    except MaxRetryError:
                        raise error from None
                    retries.sleep()

    def _upload(self, method: str, path: str, data: "_Upload | None" = None) -> str:
        """Send a part of an upload; return the URL that the next part goes to."""
        headers = {"Content-Type": "application/octet-stream"} if data else {}
        with self._request(method, path, headers, data, (201, 202, 204)) as response:
            place = response.headers.get("Location", "")
            try:
                return urljoin(response.url, place)
            except ValueError as error:
                raise KernelUnavailableError(
                    f"{self._reference.host} answered with an address that is none: "
                    f"{printable(place, 100)}"
                ) from error

    def _url(self, path: str) -> str:
        """Return the URL of a path in the repository; that of an upload is a URL already.

        A registry behind a proxy may not know that it is spoken to with TLS: what it calls
        http://host is https://host.
        """
        base = urlsplit(f"{self._reference.base_url}/")
        url = urlsplit(urljoin(base.geturl(), path))
        is_own = url.netloc == base.netloc and base.scheme == "https"
        return (url._replace(scheme="https") if is_own else url).geturl()

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = MappingProxyType({}),
        data: "bytes | _Upload | None" = None,
        ok: Sequence[int] = (200, 206, 416),
    ) -> requests.Response:
        """Send a request, with a login if the registry asks for one; with GET, a `download.Send`.

        KernelUnavailableError for a response with another status than these.
        """
        host, auth = self._reference.host, self._registry.auth
        try:
            response = self._send(method, path, headers, data, auth.get_auth_header())
            if response.status_code in (401, 403) and (login := self._authorization(response)):
                response.close()
                response = self._send(method, path, headers, data, login)
        except requests.exceptions.SSLError as error:
            raise KernelUnavailableError(
                f"{host} has a certificate that this host does not trust", download.reason(error)
            ) from error
        except requests.RequestException as error:
            raise UnreachableError(f"{host} can't be reached", download.reason(error)) from error
        if response.status_code not in ok:
            raise self._explained(response)
        return response

    def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        data: "bytes | _Upload | None",
        login: Mapping[str, str],
    ) -> requests.Response:
        url = self._url(path)
        # A registry may let a storage service take an upload, which must not see the login.
        own = urlsplit(url)[:2] == urlsplit(self._reference.base_url)[:2]  # scheme and host
        if isinstance(data, _Upload):
            data.rewind()
        response: requests.Response = self._registry.session.request(
            method,
            url,
            headers={"Accept": "*/*", **headers, **(login if own else {})},
            data=data,
            stream=method == "GET",  # all other answers are short
        )
        return response

    def _authorization(self, response: requests.Response) -> dict[str, str]:
        """Return the header that the registry asks for, or nothing if there is no login."""
        auth = self._registry.auth
        if self._login is None:
            self._login = credentials.find(self._reference.host, self._reference.repository)
            if self._login:
                auth.set_basic_auth(self._login.user, self._login.secret)
        challenge = response.headers.get("Www-Authenticate", "")
        if challenge.lower().startswith("bearer "):
            if self._may_push:
                # For the first request too: some registries refuse a token for reading as long as
                # nothing was pushed.
                wider = challenge.replace(':pull"', ':pull,push"')
                response.headers["Www-Authenticate"] = wider
            try:
                headers, changed = auth.authenticate_request(response, {}, refresh=True)
            except (ValueError, TypeError, AttributeError, RecursionError):
                return {}  # a challenge or a token that oras can't read
            return dict(headers) if changed else {}
        if challenge.lower().startswith("basic") and self._login:
            pair = f"{self._login.user}:{self._login.secret}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return {}

    def _explained(self, response: requests.Response) -> BpfmatrixError:
        """Return the error for a response that is no success."""
        host, status, said = self._reference.host, response.status_code, _message(response)
        if status in (401, 403):
            return self._denied(said)
        if status == 404 and response.request.method in ("GET", "HEAD"):
            tag = f":{self._reference.tag}" if self._reference.tag else ""
            digest = f"@{self._reference.digest}" if self._reference.digest else ""
            image = f"{self._reference.repository}{tag}{digest}"
            if self._found_a_manifest:
                return GoneError(f"{host} has {image}, but not all parts of it", said)
            return GoneError(
                f"{host} has no {image}", f"Look at the image's tags at {host}. {said}".strip()
            )
        if status == 429:  # whoever has the image from earlier can go on with that
            return UnreachableError(
                f"{host} has had too many requests from this host",
                f"Try again later. {said}".strip(),
            )
        if status == 413:
            return KernelUnavailableError(
                f"{host} takes no upload of this size (HTTP status 413)",
                f"The registry, or a proxy before it, limits them. {said}".strip(),
            )
        # What a later request may get another answer to (RFC 9110, sections 15.5.9 and 15.6).
        kind = UnreachableError if status >= 500 or status == 408 else KernelUnavailableError
        return kind(f"{host} answered with HTTP status {status}", said)

    def _denied(self, said: str) -> BpfmatrixError:
        host, login = self._reference.host, self._login
        how = f"Log in with `docker login {host}` or `podman login {host}`"
        if login:
            what = "push to" if self._may_push else "read"
            return KernelUnavailableError(
                f"{host} refused the login of {login.origin} for {self._reference.repository}",
                f"{how}, with a user who may {what} it. {said}".strip(),
            )
        problem = f" {login.problem}." if login is not None and login.problem else ""
        return KernelUnavailableError(
            f"{host} requires a login for {self._reference.repository}, or does not have it",
            f"{how}.{problem} {said}".strip(),
        )

    def _explained_transfer(self, error: BpfmatrixError, blob: Descriptor | None) -> BpfmatrixError:
        """Return what a transfer that began and failed means for the image."""
        if isinstance(error, download.TransferError):
            return UnreachableError(
                f"{self._reference.host} closed the connection in the middle", error.advice
            )
        if blob is None:
            return KernelUnavailableError(f"{self._reference}: {error.what}")
        return self._wrong_digest("a layer", error.what, blob.digest)

    def _wrong_digest(self, what: str, found: str, expected: str) -> KernelUnavailableError:
        return KernelUnavailableError(
            f"{self._reference}: {what} that {self._reference.host} sent does not have its digest",
            f"Expected: {expected}; but {found}. Nothing of it is kept.",
        )


class _Upload:
    """A file as the body of a request, which shows how much of it was read."""

    def __init__(self, file: IO[bytes], size_bytes: int, progress: BytesProgress) -> None:
        self._file, self._size_bytes, self._progress = file, size_bytes, progress

    def rewind(self) -> None:
        self._file.seek(0)

    def __len__(self) -> int:
        return self._size_bytes

    def __iter__(self) -> Iterator[bytes]:  # `requests` takes what has it for a stream
        return iter(partial(self.read, 1 << 16), b"")

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._progress(self._file.tell(), self._size_bytes)
        return data


def _message(response: requests.Response) -> str:
    """Return the registry's own words (OCI distribution specification, "Error codes")."""
    try:
        is_get = response.request.method == "GET"
        body = response.raw.read(4096, decode_content=True) if is_get else response.content
        data = manifests.loads(body)
        said = printable(data["errors"][0]["message"], 200)
        return f"It said: {said.rstrip('.')}."
    except (ValueError, LookupError, TypeError, OSError, urllib3.exceptions.HTTPError):
        return ""
    finally:
        response.close()
