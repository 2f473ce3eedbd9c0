"""What the packages of this host know of Debian's archives, on a host of another distribution.

python-apt has templates of each distribution's sources, debootstrap a script for each suite. One
of them is installed on many hosts without Debian's sources, such as every usual Ubuntu.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["KEYRING", "Mirror", "find"]

KEYRING = Path(__file__).parent / "keyrings/debian-archive-keyring.gpg"
"""The keys that sign Debian's archives; keyrings/README.md says where they come from."""

_TEMPLATES = Path("usr/share/python-apt/templates/Debian.info")
_SCRIPT = Path("usr/share/debootstrap/scripts/sid")
_DEBOOTSTRAPS = (Path("usr/sbin/debootstrap"), Path("usr/bin/debootstrap"))


@dataclass(frozen=True)
class Mirror:
    """The URLs of Debian's archives, and the file that has them."""

    debian: str
    security: str | None
    file: Path


def find(root: Path = Path("/")) -> Mirror | None:
    """Return what the host knows of Debian's archives, or None; `root` is its root folder."""
    return next(iter(_found(root)), None)


def _found(root: Path) -> Iterator[Mirror]:
    """Give each mirror that the host knows, the best one first."""
    if mirror := _of_template(root / _TEMPLATES):
        yield mirror
    # `sid` is the script of Debian's suites, to which the others are links. One that names no
    # mirror has that of the program itself, which a distribution may have replaced by its own.
    script = root / _SCRIPT
    if match := re.search(r"^\s*default_mirror\s+(https?://\S+)", _text(script), re.MULTILINE):
        yield Mirror(match[1], None, script)
    for program in (root / path for path in _DEBOOTSTRAPS if script.exists()):
        pattern = r"^DEF_MIRROR=[\"']?(https?://[^\s\"']+/debian/?)[\"']?$"
        if match := re.search(pattern, _text(program), re.MULTILINE):
            yield Mirror(match[1], None, program)


def _of_template(file: Path) -> Mirror | None:
    """Return the mirror of a template of python-apt: aptsources/distinfo.py reads its format."""
    uris: dict[str, str] = {}
    for stanza in re.split(r"\n\s*\n", _text(file)):
        fields = dict(re.findall(r"^(Suite|BaseURI):\s*(\S+)\s*$", stanza, re.MULTILINE))
        # `{series}` stands for the name of any release; python-apt of before 2.1 has a stanza for
        # each release, the newest one first.
        match = re.fullmatch(r"(?:\{series\}|[a-z]+)(|-security|/updates)", fields.get("Suite", ""))
        if match and re.match(r"https?://", fields.get("BaseURI", "")):
            kind = "security" if match[1] else "debian"
            uris.setdefault(kind, fields["BaseURI"])
    return Mirror(uris["debian"], uris.get("security"), file) if "debian" in uris else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
