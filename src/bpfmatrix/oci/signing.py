"""Signatures of images, made by cosign or notation, which also push them."""

import shutil
import subprocess
import sys
from dataclasses import dataclass

from bpfmatrix.errors import BpfmatrixError, ToolMissingError
from bpfmatrix.oci.reference import Reference

__all__ = ["Signer", "find"]


@dataclass(frozen=True)
class Signer:
    """A program that signs images."""

    name: str

    def sign(self, image: Reference, key: str | None) -> None:
        """Sign an image by its digest; what the program says and asks goes to the terminal."""
        status = subprocess.run(self.command(image, key), check=False).returncode
        if status:
            raise BpfmatrixError(
                f"{self.name} did not sign {image} (exit status {status})",
                f"The image is pushed, without a signature. See what {self.name} said above, and "
                "push again: only the signature is then missing.",
            )

    def command(self, image: Reference, key: str | None) -> list[str]:
        """Return the command line, as the manuals of `cosign sign` and `notation sign` have it.

        cosign asks before it writes to its public log; where nobody could answer, it must not ask.
        """
        name = f"{image.name}@{image.digest}"
        chosen = ["--key", key] if key else []
        if self.name == "cosign":
            plain = ["--allow-http-registry"] if image.plain else []
            silent = [] if sys.stdin.isatty() else ["--yes"]
            return ["cosign", "sign", *silent, *plain, *chosen, name]
        plain = ["--insecure-registry"] if image.plain else []
        return ["notation", "sign", *plain, *chosen, name]


def find() -> Signer:
    """Return cosign, or else notation; ToolMissingError if neither is installed."""
    for name in ("cosign", "notation"):
        if shutil.which(name):
            return Signer(name)
    raise ToolMissingError(
        "neither cosign nor notation is installed, and --sign needs one of them",
        "Install one, or push without --sign.",
    )
