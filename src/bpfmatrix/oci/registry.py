"""A client for one repository of a container registry (OCI distribution specification).

It fetches manifests and blobs, and compares each with its digest. oras keeps the connections and
exchanges logins for tokens. The rest of its client is not used: it retries every failure with
pauses of up to 83 s, sets no time-outs, checks no digests, and knows no index, no HTTP basic
authentication without tokens, and no login that podman stored. Retries and time-outs, and the
downloads of blobs, are those of `host.download`.
"""

import base64
import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from oras.provider import Registry  # type: ignore[import-untyped]

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError
from bpfmatrix.host import download
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.download import BytesProgress, Send
from bpfmatrix.oci import credentials, manifests
from bpfmatrix.oci.layers import printable
from bpfmatrix.oci.manifests import Descriptor
from bpfmatrix.oci.reference import Reference

__all__ = ["GoneError", "RegistryClient"]

# "clients SHOULD support manifests of at least 4 MiB" (OCI distribution specification).
_MANIFEST_LIMIT_BYTES = 4 << 20
# How many tags are asked for at once, and after how many pages a registry is left that never ends.
_TAGS_OF_A_PAGE = 1000
_MOST_PAGES = 100


class GoneError(KernelUnavailableError):
    """The registry has no such image."""


class RegistryClient:
    """Fetches the parts of one image."""

    def __init__(self, reference: Reference) -> None:
        # oras logs what the errors of this class already say.
        logging.getLogger("oras.logger").setLevel(logging.CRITICAL)
        self._reference = reference
        self._registry = Registry(hostname=reference.host, insecure=reference.plain)
        download.prepare(self._registry.session)
        self._login: credentials.Login | None = None
        self._found_a_manifest = False

    def manifest(self, name: str, digest: str) -> tuple[str, dict[str, Any]]:
        """Fetch a manifest or an index by its tag or digest; return its digest and its content.

        `digest` is the one that it must have, or "" if only a tag is known.
        """
        accept = ", ".join(manifests.INDEXES + manifests.MANIFESTS)
        path, declared = f"manifests/{name}", ""

        def send(headers: Mapping[str, str]) -> requests.Response:
            nonlocal declared
            response = self._get(path, accept, headers)
            declared = response.headers.get("Docker-Content-Digest", "")
            return response

        data = self._read(path, None, send)
        expected = digest or declared
        self._found_a_manifest = True
        found = f"sha256:{sha256(data)}"
        if expected.startswith("sha256:") and found != expected:
            raise self._wrong_digest("a manifest", f"it is {found}", expected)
        return found, manifests.parse(data, str(self._reference))

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
                response = self._get(path, "application/json", headers)
                following = response.links.get("next", {}).get("url")
                return response

            try:
                page = json.loads(self._read(path, None, send)).get("tags") or []
                found += [tag for tag in page if isinstance(tag, str)]
            except (ValueError, AttributeError, TypeError) as error:
                raise KernelUnavailableError(
                    f"{self._reference.host} has no readable list of the tags of "
                    f"{self._reference.repository}"
                ) from error
            if following is None:
                break
            # The link may name another host, to which no login may be sent: only its query counts.
            path = f"tags/list?{urlsplit(following).query}"
        return tuple(found)

    def read_blob(self, blob: Descriptor) -> bytes:
        """Return the content of a small blob."""
        if blob.size_bytes > _MANIFEST_LIMIT_BYTES:
            raise manifests.unreadable(str(self._reference))
        path = f"blobs/{blob.digest}"
        return self._read(path, blob, partial(self._get, path, "*/*"))

    def fetch_blob(self, blob: Descriptor, target: Path, progress: BytesProgress) -> None:
        """Fetch a blob into a file. A transfer that breaks off is resumed."""
        path = f"blobs/{blob.digest}"
        send = partial(self._get, path, "*/*")
        try:
            download.fetch(
                self._url(path), target, blob.sha256, blob.size_bytes, progress, send=send
            )
        except (download.ContentError, download.TransferError) as error:
            raise self._explained_transfer(error, blob) from error
        if (size := target.stat().st_size) != blob.size_bytes:
            raise self._wrong_digest("a layer", f"it has {size} bytes", blob.digest)

    def _read(self, path: str, blob: Descriptor | None, send: Send) -> bytes:
        sha256, limit = (blob.sha256, blob.size_bytes) if blob else (None, _MANIFEST_LIMIT_BYTES)
        try:
            return download.read(self._url(path), sha256, limit, send)
        except (download.ContentError, download.TransferError) as error:
            raise self._explained_transfer(error, blob) from error

    def _url(self, path: str) -> str:
        return f"{self._reference.base_url}/{path}"

    def _get(self, path: str, accept: str, headers: Mapping[str, str]) -> requests.Response:
        """Send a GET request, with a login if the registry asks for one (`download.Send`)."""
        host, headers = self._reference.host, {**headers, "Accept": accept}
        try:
            response = self._send(path, {**headers, **self._registry.auth.get_auth_header()})
            if response.status_code in (401, 403) and (login := self._authorization(response)):
                response.close()
                response = self._send(path, {**headers, **login})
        except requests.exceptions.SSLError as error:
            raise KernelUnavailableError(
                f"{host} has a certificate that this host does not trust", download.reason(error)
            ) from error
        except requests.RequestException as error:
            raise UnreachableError(f"{host} can't be reached", download.reason(error)) from error
        if response.status_code not in (200, 206, 416):
            raise self._explained(response)
        return response

    def _send(self, path: str, headers: Mapping[str, str]) -> requests.Response:
        response: requests.Response = self._registry.session.get(
            self._url(path), headers=dict(headers), stream=True
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
        """Return the error for a response that is no success."""
        host, status, said = self._reference.host, response.status_code, _message(response)
        if status in (401, 403):
            return self._denied(said)
        if status == 404:
            tag = f":{self._reference.tag}" if self._reference.tag else ""
            digest = f"@{self._reference.digest}" if self._reference.digest else ""
            image = f"{self._reference.repository}{tag}{digest}"
            if self._found_a_manifest:
                return GoneError(f"{host} has {image}, but not all parts of it", said)
            return GoneError(
                f"{host} has no {image}", f"Look at the image's tags at {host}. {said}".strip()
            )
        if status == 429:
            return KernelUnavailableError(
                f"{host} has had too many requests from this host",
                f"Try again later. {said}".strip(),
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
