"""What `init` does: looks at a project, asks the sources of kernels, and writes the first files."""

import os
import platform
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.cli.console import say
from bpfmatrix.cli.doctor import asked
from bpfmatrix.cli.tasks.declaration import progress
from bpfmatrix.config import kernels_yaml
from bpfmatrix.config.models import FILE_NAME
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.host.architecture import ARCHITECTURES, DEFAULT
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.front_end import command
from bpfmatrix.host.text import counted
from bpfmatrix.host.whole_file import write_whole
from bpfmatrix.scaffold import findings, kernel_list, rendering, tree
from bpfmatrix.scaffold.findings import Findings
from bpfmatrix.scaffold.kernel_list import KernelList

__all__ = ["write_first_files"]

_LABEL = 8
_FEW = 4
# What a noxfile.py and a tasks.py of a project say if they have bpfmatrix's sessions and tasks.
_MENTION = re.compile(r"\bbpfmatrix\b")


@dataclass(frozen=True)
class _File:
    """A file that is to be there in the end."""

    name: str
    text: str
    if_kept: str = ""
    """What to add to it if it is there without a mention of bpfmatrix."""
    then: str = ""
    """What has to be done with it after it was written."""


def write_first_files(root: Path, ci: str | None, *, here: bool, dry_run: bool) -> None:
    """Write the files that the project in `root` lacks, and print what was found and what is next.

    UsageError if a folder above has a kernels.yaml, unless it is to be `here`. ConfigError if there
    is a kernels.yaml that is wrong. OSError, which names the file, if one can't be written.
    """
    declared = kernels_yaml.place_in(root)
    is_declared = kernels_yaml.exists_in(root)
    if is_declared:
        kernels_yaml.load(declared)
    elif not here:
        _require_no_project_above(root)
    seen = tree.look_at(root)
    found = findings.find(seen, _host_architecture())
    for line in _remarks(seen, found):
        _print("found", line)
    kernels = None
    if not is_declared:
        kernels = _ask(found.arch)
    wrote, kept, added = [], [], []
    for file in _files(root, declared.name, found, kernels, ci):
        path = root / file.name
        if path.exists() or path.is_symlink():
            kept.append(file.name)
            if file.if_kept and not _mentions(path):
                added.append(f"add to {file.name}: {file.if_kept}")
            continue
        if dry_run:
            say(f"\n--- {file.name}\n{file.text}")
        else:
            write_whole(path, file.text.encode())
        wrote.append(file.name + _ids(file, kernels))
        added += [file.then] if file.then else []
    if wrote:
        names = ", ".join(wrote)
        _print(*("would", f"write {names}") if dry_run else ("wrote", names))
    if kept:
        _print("kept", ", ".join(kept))
    for line in (*added, *_next(found)):
        _print("next", line)


def _require_no_project_above(root: Path) -> None:
    above = Project.root_above(root)
    if above != root:
        used = os.path.relpath(kernels_yaml.place_in(above), root)
        raise UsageError(
            f"the kernels.yaml of a folder above, {used}, is used in this folder",
            f"To make this folder a project of its own, type `{command('init --here')}`.",
        )


def _host_architecture() -> str:
    machine = platform.machine()
    return machine if machine in ARCHITECTURES else DEFAULT.name


def _print(label: str, text: str) -> None:
    say(f"{label:<{_LABEL}}{text}")


def _ask(arch: str) -> KernelList:
    answers = kernel_list.Answers(arch, Cache.default())
    progress("asking Debian's suites and ghcr.io for kernels ...")
    return kernel_list.choose(answers, asked(answers.questions()))


def _files(
    root: Path, declared: str, found: Findings, kernels: KernelList | None, ci: str | None
) -> list[_File]:
    files = [
        _File(declared, rendering.kernels_yaml(found, kernels) if kernels else ""),
        _File(
            "noxfile.py",
            rendering.NOXFILE,
            "`from bpfmatrix.sessions import register`, and `register()`",
        ),
        _File("tasks.py", rendering.TASKS, "`from bpfmatrix.tasks import namespace`"),
    ]
    return [*files, _ci_file(root, found, ci)] if ci else files


def _ci_file(root: Path, found: Findings, system: str) -> _File:
    folder = tree.folder_in_repository(root)
    text = rendering.ci_text(system, tree.default_branch(root), found, folder)
    name = os.path.relpath("/" + rendering.CI_FILES[system], "/" + folder)
    own = root / name
    if system == "gitlab" and own.exists() and not _mentions(own):
        then = f"add to {rendering.GITLAB_FILE}: {rendering.GITLAB_INCLUDE}"
        part = os.path.relpath("/" + rendering.GITLAB_PART, "/" + folder)
        return _File(part, text, then=then)
    return _File(name, text)


def _ids(file: _File, kernels: KernelList | None) -> str:
    return f" ({', '.join(kernels.ids)})" if kernels and file.name == FILE_NAME else ""


def _mentions(path: Path) -> bool:
    try:
        return _MENTION.search(path.read_text(encoding="utf-8", errors="replace")) is not None
    except OSError:
        return False


def _remarks(seen: tree.Tree, found: Findings) -> list[str]:
    """Say what was found, a line for each kind of thing."""
    lines = [_objects(found)] if found.objects or found.make else []
    for module in (*found.modules[:1], *found.other_modules):
        tags = f", build tags {', '.join(module.tags)}" if module.tags else ""
        where = "" if module.folder == "." else f" in {module.folder}"
        lines.append(
            f"Go module{where}: {counted(module.tested, 'package')} with tests, "
            f"{module.reaching} of them about eBPF{tags}"
        )
    if found.executables:
        lines.append(
            f"{counted(len(found.executables), 'test executable')}: "
            f"{_some([one.path for one in found.executables])}"
        )
    lines += [
        f"cargo in {one.folder}{f', which loads with {one.loader}' if one.loader else ''}"
        for one in found.cargo
        if one.loader or found.is_empty
    ]
    lines += [f"tests of {one.name} in {one.folder}" for one in found.runners]
    if found.sources and not (found.objects or found.make):
        lines.append(f"eBPF sources that nothing here builds: {_some(found.sources)}")
    lines = lines or ["no eBPF objects, Go tests, cargo workspace or test executables"]
    if seen.unreadable:
        lines.append(f"folders that can't be read: {_some(seen.unreadable)}")
    if seen.cut:
        lines.append(f"more files than were looked at, which are {len(seen.files)}")
    return lines


def _objects(found: Findings) -> str:
    """Say which objects there are; those that are named one by one, by their folder."""
    folders = Counter(tree.folder_of(one.pattern) for one in found.objects)
    counts: dict[str, list[int]] = {}
    for one in found.objects:
        folder = tree.folder_of(one.pattern)
        place = one.pattern if folders[folder] == 1 else f"{folder}/"
        counts.setdefault(place, []).append(one.count)
    named = [f"{place} ({_count(each)})" for place, each in counts.items()]
    named += [
        f"{one.folder}/Makefile (builds objects{' and tests' if one.tests else ''})"
        for one in found.make
    ]
    return _some(named)


def _count(counts: Sequence[int]) -> str:
    if total := sum(counts):
        return counted(total, "object")
    return (
        f"{counted(len(counts), 'object')}, not built yet" if len(counts) > 1 else "not built yet"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def _next(found: Findings) -> list[str]:
    """Return the commands to type next, each on a line of its own."""
    if found.is_empty and found.foreign_commands:
        return list(found.foreign_commands[0])
    if found.is_empty:
        return ["declare in kernels.yaml what to load or run: it has examples"]
    return [*found.first, command("matrix")]
