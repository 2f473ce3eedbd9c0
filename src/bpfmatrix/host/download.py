"""Downloads over HTTP: one file at a time, retried, resumed, and checked.

`fetch` writes to `<target>.part`, and renames that to the target when it is complete and has its
checksum. With a checksum, an interrupted download is resumed: in the same call if the connection
broke, in a later call if the process was ended. `read` returns the content of a small file.
`prepare` gives a session of `requests` the same time-outs and retries, for a client that sends
requests of its own.

Importing this module imports `requests`, which is slow: import it where it is used.
"""

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util import Retry

from bpfmatrix.errors import KernelUnavailableError, UnreachableError
from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.host.progress import Progress

__all__ = [
    "BytesProgress",
    "ContentError",
    "MissingError",
    "Send",
    "TransferError",
    "fetch",
    "prepare",
    "probe",
    "read",
    "reason",
    "retries",
    "shown_by",
]

BytesProgress = Callable[[int, int], None]
"""Called with the bytes that have come so far, and the size of the file (0 if it is unknown)."""
Send = Callable[[Mapping[str, str]], requests.Response]
"""Sends a GET request with these headers. Returns a response whose status is 200, 206 or 416 and
whose body is not read yet (`stream=True`); any other answer is a BpfmatrixError."""

# The longest time to connect, and the longest silence within a response.
_TIMEOUT_SECONDS = (10.0, 60.0)
# Attempts beyond the first one. urllib3 pauses for 0, 1 and 2 seconds before them.
_RETRIES = 3
_BACKOFF_SECONDS = 0.5
# The longest pause that a server may ask for (Retry-After: RFC 9110, section 10.2.3).
_RETRY_AFTER_LIMIT_SECONDS = 30.0
# What servers and proxies answer for a while: RFC 9110, section 15.6; RFC 6585, section 4.
_TEMPORARY_STATUSES = (429, 500, 502, 503, 504)
_BLOCK_BYTES = 1 << 18


class ContentError(KernelUnavailableError):
    """What a server sent has another checksum than expected, or is larger than it may be."""


class MissingError(KernelUnavailableError):
    """The server does not have the file (HTTP 404 or 410)."""


class TransferError(UnreachableError):
    """The connection broke while a file was being sent, and did so again on each retry."""


def fetch(
    url: str,
    target: Path,
    sha256: str | None = None,
    limit_bytes: int | None = None,
    progress: BytesProgress = lambda there, total: None,
    send: Send | None = None,
) -> None:
    """Download a file to `target`, through the proxy that the environment names.

    `sha256` is its checksum in hexadecimal. With a checksum, `<target>.part` of an earlier call is
    resumed, and stays for a later call if this one fails. `limit_bytes` is the largest size that
    is accepted. `send` replaces the plain GET request of `url`. A `file://` URL is copied.

    Raises UnreachableError if there is no answer or only a temporary failure; TransferError if the
    connection breaks again and again; ContentError if the content is not the expected one;
    MissingError if the server does not have the file, KernelUnavailableError if it refuses it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(target.with_name(f"{target.name}.part"), url)
    if sha256 is None:
        part.discard()
    with prepare(requests.Session()) as session:
        transfer = _Transfer(part, send or partial(_get, session, url), limit_bytes, progress)
        while True:
            has_pieces = _copy(url, part) if url.startswith("file:") else transfer.run()
            if sha256 is None or (found := sha256_of(part.path)) == sha256:
                break
            part.discard()
            # The pieces may be of two versions of the file, if it was replaced in between.
            if not has_pieces:
                raise ContentError(
                    f"{url} has the SHA-256 {found}",
                    f"Expected: {sha256}. The server sends another file than was announced. "
                    "Try again later, or name another server.",
                )
    part.path.replace(target)
    part.discard()


def read(
    url: str,
    sha256: str | None = None,
    limit_bytes: int = 16 << 20,
    send: Send | None = None,
) -> bytes:
    """Return the content of a small file. The parameters and the errors are those of `fetch`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        fetch(url, file, sha256, limit_bytes, send=send)
        return file.read_bytes()


def probe(url: str) -> None:
    """Find out whether a server has a file, without fetching it. The errors are those of `fetch`.

    A server that does not answer such a request (HEAD) in full is asked no further.
    """
    if url.startswith("file:"):
        if not Path(url2pathname(urlsplit(url).path)).is_file():
            raise UnreachableError(f"{url} can't be reached", "There is no such file.")
        return
    with prepare(requests.Session()) as session:
        try:
            response = session.head(url, allow_redirects=True)
        except requests.RequestException as error:
            raise UnreachableError(f"{url} can't be reached", reason(error)) from error
        if response.status_code not in (405, 501):  # Method Not Allowed, Not Implemented
            _require_file(response, url)


def shown_by(progress: Progress, name: str) -> BytesProgress:
    """Return what shows a download, under the name of its file, by a `Progress`."""

    def show(there: int, total: int) -> None:
        size = f", {total / 1e6:.0f} MB" if total else ""
        progress(f"fetching {name}{size}", min(there / total, 1.0) if total else None)

    return show


def prepare(session: requests.Session) -> requests.Session:
    """Let every request of a session have a time-out, and retry what may be a passing failure.

    After the last retry, a connection that failed is an error of `requests`, and a response with a
    temporary status is returned as it is.
    """
    # Where nox runs, urllib3 would print a warning for each retry.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(max_retries=retries()))
    return session


def reason(error: Exception) -> str:
    """Return the innermost cause of an error of `requests` or urllib3."""
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


@dataclass(frozen=True)
class _Part:
    """The bytes of a file that have come, and a note of which version of the file they are of."""

    path: Path
    url: str

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def validator(self) -> str:
        """The entity tag or the date of the version, or "" if neither is known."""
        try:
            note = json.loads(self._note.read_bytes())
            return str(note["validator"]) if note["url"] == self.url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def begin(self, validator: str) -> None:
        """Remove the bytes of another version, and note the version of those that will come."""
        self.path.unlink(missing_ok=True)
        self._note.write_text(json.dumps({"url": self.url, "validator": validator}))

    def discard(self) -> None:
        """Remove the bytes, if they are still there, and the note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


@dataclass
class _Transfer:
    """The way of one file from a server into its part."""

    part: _Part
    send: Send
    limit_bytes: int | None
    progress: BytesProgress
    total_bytes: int = 0
    """The size of the file as the server says it; 0 as long as that is unknown."""

    def run(self) -> bool:
        """Receive all that is missing; returns whether the part is of more than one response.

        A broken connection is retried for as long as each attempt gets further than those before.
        """
        furthest = self.part.size_bytes
        has_pieces, left = furthest > 0, retries()
        while True:
            try:
                self._receive()
                return has_pieces
            except HTTPError as error:
                there = self.part.size_bytes
                has_pieces = there > 0
                if there > furthest:
                    furthest, left = there, retries()
                try:
                    left = left.increment("GET", self.part.url, error=error)
                except MaxRetryError:
                    what = f"{self.part.url} ended after {there} of {self.total_bytes} bytes"
                    raise TransferError(what, reason(error)) from error
                left.sleep()

    def _receive(self) -> None:
        there, validator = self.part.size_bytes, self.part.validator
        # A range counts the bytes of what is sent, so nothing may compress that on its way.
        headers = {"Accept-Encoding": "identity"}
        if there:
            headers["Range"] = f"bytes={there}-"
            if validator:  # or else the checksum tells whether the two pieces fit
                headers["If-Range"] = validator
        with self.send(headers) as response:
            if response.status_code == 416:  # Range Not Satisfiable: nothing is missing
                if not there:
                    raise KernelUnavailableError(
                        f"{self.part.url} answers HTTP 416 to a request without a range"
                    )
                return
            if response.status_code != 206:  # Partial Content
                there = 0
                self.part.begin(_validator(response))
            missing = int(response.headers.get("Content-Length") or 0)
            self.total_bytes = there + missing if missing else 0
            with self.part.path.open("ab") as file:
                # `read1` and not `iter_content`, which drops what came of a block that broke off.
                while block := response.raw.read1(_BLOCK_BYTES, decode_content=True):
                    there += len(block)
                    if self.limit_bytes is not None and there > self.limit_bytes:
                        raise ContentError(
                            f"{self.part.url} is larger than the {self.limit_bytes} bytes that "
                            "were expected"
                        )
                    file.write(block)
                    self.progress(there, self.total_bytes)


def _validator(response: requests.Response) -> str:
    """Return what If-Range takes: a strong entity tag, or else a date (RFC 9110, 13.1.5)."""
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified", "")


def _get(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    try:
        response = session.get(url, headers=dict(headers), stream=True)
    except requests.RequestException as error:
        raise UnreachableError(f"{url} can't be reached", reason(error)) from error
    _require_file(response, url)
    return response


def _require_file(response: requests.Response, url: str) -> None:
    """Close a response that has no file, and raise the error that it means."""
    status = response.status_code
    if status in (200, 206, 416):
        return
    response.close()
    if status in _TEMPORARY_STATUSES:
        raise UnreachableError(f"{url} can't be reached (HTTP {status})")
    refused = MissingError if status in (404, 410) else KernelUnavailableError
    raise refused(
        f"{url} answers HTTP {status} {response.reason}",
        "Is the URL right? A mirror may not have the file, or not yet.",
    )


def _copy(url: str, part: _Part) -> bool:
    """Copy a file of this host into the part; returns False, since it is not in pieces."""
    try:
        shutil.copyfile(url2pathname(urlsplit(url).path), part.path)
    except OSError as error:
        raise UnreachableError(f"{url} can't be reached", f"{error.strerror}.") from error
    return False


class _Retry(Retry):
    """Retries that no server can make wait for hours."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, _RETRY_AFTER_LIMIT_SECONDS)


def retries() -> Retry:
    """Return what counts failed attempts, and how long to pause before the next one."""
    return _Retry(
        total=_RETRIES,
        backoff_factor=_BACKOFF_SECONDS,
        status_forcelist=_TEMPORARY_STATUSES,
        raise_on_status=False,
    )


class _Adapter(HTTPAdapter):
    """Connections with time-outs: without one, `requests` waits forever."""

    def send(self, request: requests.PreparedRequest, **settings: Any) -> requests.Response:  # type: ignore[override]
        settings["timeout"] = settings.get("timeout") or _TIMEOUT_SECONDS
        return super().send(request, **settings)
