"""The notices of what a wheel's programs are linked with: licences, and whose the copyright is.

`hatch_build.py` puts them into the wheel as THIRD-PARTY-NOTICES.txt. They are taken from where the
builds take the code: Go's module cache, cargo's, Debian's packages, and libbpf's sources. A package
that has no licence file of its own, as two crates, is named with the licence that it declares.
"""

import json
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import BuildError
from bpfmatrix.host import tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress
from bpfmatrix.payload.loaders import aya_loader, libbpf_source, sysroot

__all__ = ["NAME", "Notice", "named", "of_programs", "to_text"]

NAME = "THIRD-PARTY-NOTICES.txt"
LIBRARIES = {
    "glibc": "libc6-dev",
    "elfutils": "libelf-dev",
    "zlib": "zlib1g-dev",
    "jansson": "libjansson-dev",
}
"""The static libraries, and the packages of Debian that have them and their notices."""
LICENCES = ("GPL-2", "GPL-3", "LGPL-2.1", "LGPL-3")
"""The texts of licences that Debian's notices name by their paths on Debian."""

_ROOT = Path(__file__).parent.parent
_RULE = "=" * 80
_HEADING = re.compile(rf"^{_RULE}\n(\S+) (.+)\n{_RULE}$", re.MULTILINE)
_FILE = re.compile(r"(?i)(licen[cs]e|copying|notice|copyright|unlicense|patents)([-._].*)?")


@dataclass(frozen=True)
class Notice:
    """The notices of one component: its name and version, and the texts."""

    name: str
    version: str
    text: str


def of_programs(
    loaders: Iterable[str], arch: str, cache: Cache, progress: Progress
) -> Iterator[Notice]:
    """Give the notices of the programs in Go, and of these loaders, one of each component.

    The libraries of `arch` stand for those of all architectures: they are of the same packages.
    """
    yield from _go_modules(_ROOT / "support")
    if "aya" in loaders:
        yield from _crates(aya_loader.SOURCES)
    if {"aya", "libbpf"} & {*loaders}:
        yield from _libraries(sysroot.obtain(arch, cache, progress))
    if "libbpf" in loaders:
        yield _libbpf(libbpf_source.obtain(cache, progress))


def to_text(notices: Iterable[Notice]) -> str:
    """Return one text of all notices, in the order of their names."""
    parts = [
        "The programs beside this file are linked with the following components. "
        "Their sources are\nthose that the names and versions say; docs/releasing.md of bpfmatrix "
        "says how the programs are built.\n"
    ]
    for notice in sorted(notices, key=lambda one: (one.name, one.version)):
        parts.append(f"{_RULE}\n{notice.name} {notice.version}\n{_RULE}\n\n{notice.text.strip()}\n")
    return "\n".join(parts)


def named(text: str) -> set[tuple[str, str]]:
    """Return the names and versions of the components that a text of `to_text` has."""
    return {(found[1], found[2]) for found in _HEADING.finditer(text)}


def _go_modules(module: Path) -> Iterator[Notice]:
    go = str(tools.require("go", "golang-go"))

    version, root = _said([go, "env", "GOVERSION", "GOROOT"], module).splitlines()
    # Debian's Go has its licence in the folder of its package's documentation.
    places = (Path(root), *Path("/usr/share/doc").glob("golang-1*-go"))
    text = next((text for place in places if (text := _texts(place))), "")
    yield Notice("stdlib", version.removeprefix("go"), text)
    form = "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}"
    listed = _said([go, "list", "-deps", "-f", form, "./cmd/..."], module)
    for line in sorted({*listed.split("\n")} - {""}):
        path, number, folder = line.split("\t")
        yield Notice(path, number, _texts(Path(folder)))


def _crates(sources: Path) -> Iterator[Notice]:
    cargo = str(tools.require("cargo", "cargo"))
    said = _said([cargo, "metadata", "--format-version=1", "--locked"], sources)
    for crate in json.loads(said)["packages"]:
        if crate["source"] is not None:
            declared = f"Licence: {crate['license']}\nAuthors: {', '.join(crate['authors'])}\n"
            texts = _texts(Path(crate["manifest_path"]).parent)
            yield Notice(crate["name"], crate["version"], f"{declared}\n{texts}")


def _libraries(sysroot_tar: Path) -> Iterator[Notice]:
    with tarfile.open(sysroot_tar) as archive:
        for name, package in LIBRARIES.items():
            file = archive.extractfile(f"usr/share/doc/{package}/copyright")
            if file is None:
                raise BuildError(f"{package} has no file `copyright`")
            yield Notice(name, f"of Debian's {package}", file.read().decode())
        for name in LICENCES:
            file = archive.extractfile(f"usr/share/common-licenses/{name}")
            if file is None:
                raise BuildError(f"Debian's licences have no {name}")
            yield Notice(f"/usr/share/common-licenses/{name}", "of Debian", file.read().decode())


def _libbpf(sources: Path) -> Notice:
    """Return libbpf's notices: its files name the holders, and each has the same two licences."""
    with tarfile.open(sources) as archive:
        files = [archive.extractfile(member) for member in archive if member.isfile()]
        texts = [file.read().decode() for file in files if file]
    lines = {
        found.strip(" */\n")
        for text in texts
        for found in re.findall(r"^.*Copyright.*$", text, re.MULTILINE)
    }
    licence = (_ROOT / "ebpf/LICENSE-BSD-2-Clause").read_text()
    return Notice("libbpf", libbpf_source.VERSION, "\n".join((*sorted(lines), "", licence)))


def _said(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def _texts(folder: Path) -> str:
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and _FILE.fullmatch(path.name)
    )
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)
