"""Signatures of images, made by cosign or notation, which also push them."""

import shutil
import subprocess
from dataclasses import dataclass

from bpfmatrix.errors import BpfmatrixError, ToolMissingError
from bpfmatrix.host.process import reason_of_end
from bpfmatrix.oci.reference import Reference

__all__ = ["Signer", "find"]


@dataclass(frozen=True)
class Signer:
    """A program that signs images."""

    name: str

    def sign(self, image: Reference, key: str | None) -> None:
        """Sign an image by its digest. What the program asks, it asks on the terminal."""
        done = subprocess.run(
            self.command(image, key), stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            why = reason_of_end(done.returncode, done.stderr)
            raise BpfmatrixError(
                f"{self.name} did not sign {image}: {why}",
                "The image is pushed, without a signature; push again to sign it.",
            )

    def command(self, image: Reference, key: str | None) -> list[str]:
        """Return the command line, as the manuals of `cosign sign` and `notation sign` have it."""
        name = f"{image.name}@{image.digest}"
        chosen = ["--key", key] if key else []
        if self.name == "cosign":
            plain = ["--allow-http-registry"] if image.plain else []
            return ["cosign", "sign", "--yes", *plain, *chosen, name]
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
