"""One file from an address that kernels.yaml names."""

import http.client
import urllib.error
import urllib.request
from pathlib import Path

from bpfmatrix.errors import KernelUnavailableError, UnreachableError
from bpfmatrix.host.progress import Progress, silent

__all__ = ["download"]

_SILENCE_SECONDS = 30
_PIECE_BYTES = 1 << 18


def download(url: str, target: Path, progress: Progress = silent) -> None:
    """Fetch an address into a file, through the proxy that the environment names.

    UnreachableError where nothing answers, or not to the end; KernelUnavailableError where
    the answer is that there is no such thing.
    """
    name = target.name
    try:
        with (
            urllib.request.urlopen(url, timeout=_SILENCE_SECONDS) as answer,  # noqa: S310 - as told
            target.open("wb") as file,
        ):
            total, there = int(answer.headers.get("Content-Length") or 0), 0
            while piece := answer.read(_PIECE_BYTES):
                file.write(piece)
                there += len(piece)
                progress(f"fetching {name}", there / total if total else None)
        if there < total:
            raise UnreachableError(f"{url} ended after {there} of {total} bytes")
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise UnreachableError(f"{url} can't be reached (HTTP {error.code})") from error
        raise KernelUnavailableError(
            f"{url} answers HTTP {error.code} {error.reason}", "Look whether the address is right."
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise UnreachableError(f"{url} can't be reached", f"It said: {reason}") from error
