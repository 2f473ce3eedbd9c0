"""`python -m release`: check CHANGELOG.md and what was built, and write SBOM and checksums.

check [--tag v1.2.3] [FOLDER]   CHANGELOG.md, and the distributions of a folder
tag v1.2.3                      say whether the tag is of a final version or of a pre-release
notes v1.2.3                    print CHANGELOG.md's section of a version
sbom FOLDER                     write DISTRIBUTION-VERSION.cdx.json beside each wheel
checksums FOLDER                write SHA256SUMS of all files of the folder
"""

import argparse
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packaging.version import InvalidVersion, Version

from bpfmatrix.host.checksum import sha256
from bpfmatrix.payload.shipped import LEFT_OUT
from release import changelog

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
CHECKSUMS = "SHA256SUMS"
DISTRIBUTIONS = {"bpfmatrix": ".", "bytecode_lines": "bytecode-lines"}
"""The distributions of this repository, as their files are named, and their folders. One tag
releases both."""
_FEW = 10


def main() -> None:
    """Run one command; the exit status is 1 if something is wrong."""
    words = _parser().parse_args()
    try:
        sys.exit(words.command(words))
    except (LookupError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("check")
    command.add_argument("--tag", type=_version, metavar="v1.2.3")
    command.add_argument("folder", nargs="?", type=Path)
    command.set_defaults(command=_check)
    command = commands.add_parser("tag")
    command.add_argument("tag", type=_version)
    command.set_defaults(command=_tag)
    command = commands.add_parser("notes")
    command.add_argument("tag", type=_version)
    command.set_defaults(command=_notes)
    for name, function in {"sbom": _sbom, "checksums": _checksums}.items():
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        command.set_defaults(command=function)
    return parser


def _version(tag: str) -> str:
    if not tag.startswith("v"):
        raise argparse.ArgumentTypeError(f"{tag!r} is no tag of a release, such as v1.2.3")
    version = tag.removeprefix("v")
    try:
        normal = str(Version(version))
    except InvalidVersion:
        raise argparse.ArgumentTypeError(f"{version!r} of {tag!r} is no version") from None
    # Files have this spelling, so the tag and CHANGELOG.md need it too.
    if normal != version:
        raise argparse.ArgumentTypeError(
            f"{tag!r} is not spelled as the version: name it v{normal}"
        )
    return version


def _check(words: argparse.Namespace) -> int:
    found = [
        f"CHANGELOG.md: {problem}"
        for problem in changelog.problems(CHANGELOG.read_text(encoding="utf-8"), words.tag)
    ]
    if words.folder:
        found += distribution_problems(words.folder, words.tag)
        for sdist in words.folder.glob("*.tar.gz"):
            found += sdist_problems(sdist, _tracked(sdist.name))
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    return bool(found)


def distribution_problems(folder: Path, version: str | None) -> Iterator[str]:
    """Give what is wrong with the distributions of a folder, to be released as a version or not."""
    built = {path.name for path in folder.iterdir() if path.suffix in (".whl", ".gz")}
    kinds = sorted((name.partition("-")[0], name.rpartition(".")[2]) for name in built)
    if kinds != sorted((name, end) for name in DISTRIBUTIONS for end in ("gz", "whl")):
        yield (
            f"{folder} does not have one wheel and one sdist of each of "
            f"{', '.join(DISTRIBUTIONS)}: {', '.join(sorted(built))}"
        )
        return
    if version is None:
        return
    wanted = {
        f"{name}-{version}{end}"
        for name in DISTRIBUTIONS
        for end in ("-py3-none-any.whl", ".tar.gz")
    }
    if built != wanted:
        yield f"{folder} has {', '.join(sorted(built))}, and not what the tag v{version} makes"
    [wheel] = folder.glob("bpfmatrix-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        name = f"bpfmatrix/loader/{LEFT_OUT}"
        if name in archive.namelist():
            yield f"the wheel was built with {archive.read(name).decode().strip()}"


def sdist_problems(sdist: Path, tracked: set[str]) -> Iterator[str]:
    """Give what an sdist has and lacks, compared with the paths of the files that git has."""
    try:
        with tarfile.open(sdist) as archive:
            files = {member.name.partition("/")[2] for member in archive if not member.isdir()}
    except tarfile.TarError as error:
        yield f"{sdist.name} can't be read: {str(error).partition(chr(10))[0]}"
        return
    # hatchling adds the repository's .gitignore, which may be above the distribution's folder.
    if more := files - tracked - {"PKG-INFO", ".gitignore"}:
        yield f"{sdist.name} has files that are not in git: {_listed(more)}"
    if less := tracked - files:
        yield f"{sdist.name} lacks files of git: {_listed(less)}"


def _listed(names: set[str]) -> str:
    first = sorted(names)[:_FEW]
    more = f", and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(first) + more


def _tracked(sdist: str) -> set[str]:
    folder = CHANGELOG.parent / DISTRIBUTIONS.get(sdist.partition("-")[0], ".")
    command = ("git", "ls-files", "-z")
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"git can't list the files: {done.stderr.decode().strip()}")
    return set(done.stdout.decode().split("\0")[:-1])


def _tag(words: argparse.Namespace) -> int:
    print("pre-release" if Version(words.tag).is_prerelease else "final")
    return 0


def _notes(words: argparse.Namespace) -> int:
    print(changelog.notes(CHANGELOG.read_text(encoding="utf-8"), words.tag))
    return 0


def _sbom(words: argparse.Namespace) -> int:
    from release import sbom  # noqa: PLC0415 - its libraries take half a second

    for wheel in sorted(words.folder.glob("*.whl")):
        name, version, _ = wheel.name.split("-", 2)
        target = words.folder / f"{name}-{version}.cdx.json"
        bom = sbom.of_wheel(wheel)
        if missing := sbom.without_notice(wheel, bom):
            raise LookupError(f"{wheel.name} has no notice of {', '.join(missing)}")
        target.write_text(sbom.to_json(bom), encoding="utf-8")
        print(f"{target}: {len(bom.components)} components")
    return 0


def _checksums(words: argparse.Namespace) -> int:
    target = words.folder / CHECKSUMS
    files = sorted(path for path in words.folder.iterdir() if path.is_file() and path != target)
    # In the format of sha256sum(1), whose --check reads it.
    target.write_text("".join(f"{sha256(path.read_bytes())}  {path.name}\n" for path in files))
    print(target.read_text(), end="")
    return 0


if __name__ == "__main__":
    main()
