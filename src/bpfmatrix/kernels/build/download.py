"""One file over HTTP: resumed where it was interrupted, and checked before it gets its name."""

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.errors import KernelUnavailableError, UnreachableError
from bpfmatrix.host.progress import Progress, silent

if TYPE_CHECKING:
    import requests

__all__ = ["download", "text"]

# Connecting, and the longest silence within a transfer.
_LIMITS_SECONDS = (20, 60)
_ATTEMPTS = 4
_PAUSE_SECONDS = 1.0


def text(url: str) -> bytes:
    """Return a small file; KernelUnavailableError where it can't be had."""
    import requests  # noqa: PLC0415 - off the start-up path

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with requests.get(url, timeout=_LIMITS_SECONDS) as response:
                _require(response, url)
                return response.content
        except requests.RequestException as error:
            if attempt == _ATTEMPTS:
                raise _unreachable(url, error) from error
            time.sleep(_PAUSE_SECONDS)
    raise AssertionError("the last attempt returns or raises")


def download(url: str, target: Path, sha256: str, progress: Progress = silent) -> None:
    """Fetch a file; what an earlier call left as `<target>.part` is gone on with.

    A connection that breaks is tried again as long as something comes. KernelUnavailableError if
    the file can't be had or has another checksum.
    """
    import requests  # noqa: PLC0415 - off the start-up path

    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    resumed = _size(part)
    failures = 0
    while True:
        before = _size(part)
        try:
            _transfer(url, part, progress)
            if _sha256(part) == sha256:
                break
            part.unlink()
            if not resumed:
                raise KernelUnavailableError(
                    f"{url} does not have the SHA-256 {sha256}",
                    "The mirror sends another file than was announced: try again later, or name "
                    "another one.",
                )
            # The earlier part may have been of another file.
            resumed = 0
        except requests.RequestException as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures == _ATTEMPTS:
                raise _unreachable(url, error) from error
            resumed = _size(part)
            time.sleep(_PAUSE_SECONDS)
    part.replace(target)


def _transfer(url: str, part: Path, progress: Progress) -> None:
    import requests  # noqa: PLC0415 - off the start-up path

    there = _size(part)
    # Compressed in transit, ranges would count other bytes than the file's.
    headers = {"Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    with requests.get(url, headers=headers, stream=True, timeout=_LIMITS_SECONDS) as response:
        if response.status_code == 416:  # there is nothing behind what we have
            return
        _require(response, url)
        if response.status_code != 206:
            there = 0
        total = there + int(response.headers.get("Content-Length", 0))
        name = url.rsplit("/", 1)[-1]
        said = f"fetching {name}, {total / 1e6:.0f} MB"
        with part.open("ab" if there else "wb") as file:
            for block in response.iter_content(1 << 20):
                file.write(block)
                there += len(block)
                progress(said, min(there / total, 1.0) if total else None)


def _require(response: "requests.Response", url: str) -> None:
    status = response.status_code
    if status == 404:
        raise KernelUnavailableError(
            f"{url} does not exist", "Is the version right? A mirror may not have it yet, or ever."
        )
    if status >= 500 or status == 429:
        response.raise_for_status()
    if status not in (200, 206):
        raise KernelUnavailableError(f"{url}: the server answered {status} {response.reason}")


def _unreachable(url: str, error: Exception) -> UnreachableError:
    # requests wraps urllib3's error, which has its own cause as `reason`.
    cause = error.args[0] if error.args else error
    said = str(getattr(cause, "reason", cause)).rpartition("): ")[2]
    return UnreachableError(
        f"{url} can't be fetched ({said[:160]})",
        "What has come is kept. Try again with a network, or name another server with this layout "
        "(url), Debian's sources (from: apt), or a folder with a source tree.",
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
