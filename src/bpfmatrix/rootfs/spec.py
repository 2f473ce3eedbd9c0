"""What a user names as the root file system of the tests: `parse` reads it, and gives a `RootSpec`.

This module is light, since `nox -l` imports it.
"""

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import UsageError
from bpfmatrix.oci.reference import GRAMMAR, TAG, LayoutName, Reference, is_layout

__all__ = ["RootSpec", "existing_folder", "parse"]

_OCI = "oci:"
_PINNED = re.compile(r"(?P<name>.+)@(?P<digest>sha256:[0-9a-f]{64})")
_TAGGED = re.compile(rf"(?P<folder>.+):(?P<tag>{TAG})")
_KINDS = "Give `host`, a folder of this host, or an image such as oci:debian:12."


@dataclass(frozen=True)
class RootSpec:
    """A root file system; one of the fields after `text` is set."""

    text: str
    """What the user wrote."""
    folder: Path | None = None
    """A folder of the host that is the root: `/` is the host's own root."""
    image: Reference | None = None
    """An image of a container registry."""
    layout: LayoutName | None = None
    """An image in a folder of the host."""
    tools: bool = False
    """The root with the tools that `bpfmatrix.rootfs.tools` makes."""

    @property
    def is_host(self) -> bool:
        """Whether it is the root of the host."""
        return self.folder == Path("/")

    @property
    def is_image(self) -> bool:
        """Whether it is an image, and not a folder."""
        return self.folder is None


def parse(text: str, option: str, base: Path | None = None) -> RootSpec:
    """Read `host`, a folder, `oci:NAME`, or an OCI layout; `base` is what a folder is relative to.

    UsageError begins with `option`, the name of the option or key, and says what is wrong.
    """
    base = base or Path()
    if not text:
        raise UsageError(f"{option}: it is empty", _KINDS)
    if text == "host":
        return RootSpec(text, folder=Path("/"))
    if text.startswith(_OCI):
        return _image(text, option, base)
    if found := _in_layout(text, base):
        return RootSpec(text, layout=found)
    if ":" in text and re.fullmatch(GRAMMAR, text) and not os.path.lexists(base / text):
        raise UsageError(
            f"{option} {text}: no such folder", f"The image of this name is oci:{text}."
        )
    resolved = existing_folder(option, text, _KINDS, base)
    if not any(resolved.iterdir()):
        raise UsageError(
            f"{option} {text}: the folder is empty",
            "Give a folder with a root file system, such as debootstrap makes, an image such as "
            "oci:debian:12, or `host`.",
        )
    return RootSpec(text, folder=resolved)


def _image(text: str, option: str, base: Path) -> RootSpec:
    """Read the name of an image: of a registry, or as skopeo has it, of a folder (`oci:./PATH`)."""
    name = text.removeprefix(_OCI)
    if name.startswith(("/", "./", "../", "~")):
        if found := _in_layout(name, base):
            return RootSpec(text, layout=found)
        raise UsageError(
            f"{option} {text}: no OCI image layout is there",
            "Give a folder with a file oci-layout, as skopeo and buildx write it.",
        )
    try:
        return RootSpec(text, image=Reference.parse(name))
    except ValueError:
        raise UsageError(
            f"{option} {text}: not the name of an image",
            "Expected: oci:NAME, oci:HOST/NAME, with :TAG or @sha256:DIGEST, such as "
            "oci:debian:12.",
        ) from None


def _in_layout(text: str, base: Path) -> LayoutName | None:
    """Return the image in a folder that has this name; None if the folder is no layout."""
    pinned = _PINNED.fullmatch(text)
    name, digest = (pinned["name"], pinned["digest"]) if pinned else (text, "")
    tagged = _TAGGED.fullmatch(name)
    # The name of a folder may itself have a colon.
    candidates = [(text, "", ""), (name, "", digest)]
    if tagged:
        candidates.append((tagged["folder"], tagged["tag"], digest))
    for place, tag, own_digest in candidates:
        try:
            folder = base / Path(place).expanduser()
        except RuntimeError:  # ~ with a user that is not known
            continue
        if is_layout(folder):
            return LayoutName(folder.resolve(), tag, own_digest)
    return None


def existing_folder(option: str, text: str, advice: str, base: Path | None = None) -> Path:
    """Return the path of a folder that exists and can be read, free of links, or UsageError."""
    try:
        path = ((base or Path()) / Path(text).expanduser()).resolve(strict=True)
        if not path.is_dir():
            raise UsageError(f"{option} {text}: not a folder", "Give the folder that it lies in.")
        os.scandir(path).close()
    except (OSError, RuntimeError, ValueError) as error:
        why = "no such folder"
        if isinstance(error, OSError) and error.errno != errno.ENOENT:
            why = error.strerror or why
        raise UsageError(f"{option} {text}: {why}", advice) from None
    return path
