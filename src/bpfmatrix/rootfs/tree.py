"""The files of a container image as an ext4 image.

The files are written below a folder as far as any user can do that, and mkfs.ext4 packs the folder.
What only root could give them, such as another owner, debugfs then writes to the ext4 image.

Devices are left out, as the guest has its own.
"""

import contextlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import ext4
from bpfmatrix.oci.layers import (
    Attributes,
    ImageFile,
    ImageFolder,
    ImageLink,
    ImageNode,
    ImageSpecial,
    printable,
)

__all__ = ["write_ext4"]

# Nearly all images have the same size, so that a machine that was saved with one can be restored
# with another. The file is sparse, so its size costs nothing.
_IMAGE_BYTES = 4 << 30
# The seconds since 1970 that all versions of ext4's inodes can keep.
_TIME_LIMIT_SECONDS = (1 << 31) - 1
_KEPT_XATTRS = ("security.capability", "user.")


def write_ext4(root: ImageFolder, staging: Path, target: Path, name: str) -> None:
    """Write the files of an image to an ext4 image.

    `staging` is an empty folder, on the file system that has the extracted files, which are moved.
    `name` is the image's name, for messages. BpfmatrixError says why it can't be done.
    """
    tree = _Tree(staging, name)
    tree.write(root)
    size = ext4.size_for(tree.content_bytes, tree.inodes, _IMAGE_BYTES)
    ext4.make(tree.folder, target, size, f"the disk of {name}", error=BpfmatrixError)
    if "lost+found" not in root.names:
        tree.commands.append(b"rmdir /lost+found")
    ext4.change(target, tree.commands, staging / "commands", f"the disk of {name}")


@dataclass
class _Tree:
    """The files below a folder, and the commands of debugfs for what they can't have there."""

    staging: Path
    name: str
    commands: list[bytes] = field(default_factory=list)
    content_bytes: int = 0
    """The size of the files."""
    inodes: int = 0
    _written: dict[ImageNode, Path] = field(default_factory=dict)
    """Where each file was written first, for hard links."""

    @property
    def folder(self) -> Path:
        return self.staging / "tree"

    def write(self, root: ImageFolder) -> None:
        self.folder.mkdir()
        (self.staging / "xattrs").mkdir()
        self._fill(root, self.folder, "")
        mode = stat.S_IFDIR | root.attributes.mode
        # Whatever mkfs.ext4 makes of it: that depends on its version.
        self.commands += [b"sif / mode 0%o" % mode]
        self.commands += [b"sif / %s %d" % pair for pair in _owner(root.attributes).items()]

    def _fill(self, node: ImageFolder, folder: Path, place: str) -> None:
        for name, child in sorted(node.names.items()):
            path, inner = folder / name, f"{place}/{name}"
            if (first := self._written.get(child)) is not None:
                os.link(first, path, follow_symlinks=False)
            elif self._made(child, path, inner):
                self._complete(child, path, inner)

    def _made(self, node: ImageNode, path: Path, place: str) -> bool:
        """Make a file, or a folder with all that is in it; tell whether it was made."""
        match node:
            case ImageFolder():
                path.mkdir()
                self._fill(node, path, place)
            case ImageFile():
                assert node.content is not None
                node.content.rename(path)
                self.content_bytes += path.stat().st_size
            case ImageLink():
                path.symlink_to(node.target)
            case ImageSpecial(kind="fifo"):
                os.mkfifo(path)
            case _:
                return False
        if not isinstance(node, ImageFolder):
            self._written[node] = path
        return True

    def _complete(self, node: ImageNode, path: Path, place: str) -> None:
        """Set the attributes of what was made, or note the commands for them."""
        self.inodes += 1
        wanted = node.attributes
        if not isinstance(node, ImageLink):
            # The user must be able to read it.
            needed = 0o700 if isinstance(node, ImageFolder) else 0o400
            with contextlib.suppress(OSError):  # such as for a group that the user is not in
                path.chmod(wanted.mode | needed)
        seconds = min(max(wanted.modified_seconds, 0), _TIME_LIMIT_SECONDS)
        os.utime(path, (seconds, seconds), follow_symlinks=False)
        found = path.lstat()
        try:
            word = ext4.quoted(place)
        except ValueError:
            raise BpfmatrixError(
                f"{self.name} has a file with a line break in its name: {printable(place, 200)!r}",
                "Use an image without such names.",
            ) from None
        mode = stat.S_IFMT(found.st_mode) | wanted.mode
        if found.st_mode != mode and not isinstance(node, ImageLink):
            self.commands.append(b"sif %s mode 0%o" % (word, mode))
        there = {b"uid": found.st_uid, b"gid": found.st_gid}
        for key, value in _owner(wanted).items():
            if there[key] != value:
                self.commands.append(b"sif %s %s %d" % (word, key, value))
        for name, content in wanted.xattrs.items():
            if name.startswith(_KEPT_XATTRS):
                self._keep_xattr(word, name, content)

    def _keep_xattr(self, word: bytes, name: str, content: bytes) -> None:
        file = self.staging / "xattrs" / str(len(self.commands))
        file.write_bytes(content)
        words = (ext4.quoted(str(file)), word, ext4.quoted(name))
        self.commands.append(b"ea_set -f %s %s %s" % words)


def _owner(attributes: Attributes) -> dict[bytes, int]:
    return {b"uid": attributes.uid, b"gid": attributes.gid}
