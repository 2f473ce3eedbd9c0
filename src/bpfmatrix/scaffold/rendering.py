"""The texts that `init` writes: kernels.yaml with comments, noxfile.py and tasks.py."""

import json
import math
import re
import textwrap
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import PurePosixPath

from bpfmatrix.host.architecture import DEFAULT
from bpfmatrix.host.documentation import PROJECT, page
from bpfmatrix.host.text import counted
from bpfmatrix.scaffold.findings import Findings
from bpfmatrix.scaffold.kernel_list import KernelList

__all__ = [
    "CI_FILES",
    "GITLAB_FILE",
    "GITLAB_INCLUDE",
    "GITLAB_PART",
    "NOXFILE",
    "TASKS",
    "ci_text",
    "kernels_yaml",
]

NOXFILE = '''\
"""The sessions of nox: `nox -l` lists them, `nox -s matrix` runs what kernels.yaml declares."""

from bpfmatrix.sessions import register

register()
'''

TASKS = '''\
"""The tasks of invoke: `invoke -l` lists them."""

from bpfmatrix.tasks import namespace

__all__ = ["namespace"]
'''

CI_FILES = {"github": ".github/workflows/bpfmatrix.yml", "gitlab": ".gitlab-ci.yml"}
"""The CI systems, and where each looks for its file."""
GITLAB_FILE, GITLAB_PART = CI_FILES["gitlab"], ".gitlab/bpfmatrix.yml"
"""GitLab reads one file of a project. If there is one, it has to include ours."""
GITLAB_INCLUDE = f"include: [{{local: /{GITLAB_PART}}}]"

_SCHEMA = f"https://raw.githubusercontent.com/{PROJECT}/v1/kernels.schema.json"
_WIDTH = 96
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*")
# Words and numbers that YAML 1.1 reads as other types than strings.
_NOT_TEXT = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null|(?=.*\d)[-+.\d][\d._e+-]*|0x.*|0o.*")
_MANY = 40


def ci_text(system: str, branch: str, found: Findings | None = None, folder: str = "") -> str:
    """Return the text of the file for a CI system, a key of CI_FILES.

    `branch` is the repository's default branch, and `folder` the project's folder in it. What was
    `found` says what the runner has to have, and to run first.
    """
    file = resources.files(__package__).joinpath(f"templates/ci/{system}.yml")
    text = file.read_text("utf-8").replace("branches: [main]", f"branches: [{scalar(branch)}]")
    if folder:
        where = f"working-directory: {scalar(folder)}"
        text = text.replace(_ACTION, f"{_ACTION}          {where}\n")
        text = text.replace(_GITLAB_JOB, _gitlab_job(folder))
    if found is not None and (steps := "".join(_steps(found, folder))):
        text = text.replace(_STEPS, steps)
    if found is not None and found.module:
        text = text.replace('BPFMATRIX_PACKAGES: ""', 'BPFMATRIX_PACKAGES: "golang-go"')
    return text


# Lines of the templates.
_STEPS = "      # What the tests are built with goes here, such as actions/setup-go.\n"
_GITLAB_JOB = "  extends: .bpfmatrix\n  variables:\n"
_ACTION = "      - uses: bpfmatrix/bpfmatrix@v1\n        with:\n"


def _gitlab_job(folder: str) -> str:
    """Return the lines of _GITLAB_JOB for a project in a folder, of whose files the cache is."""
    files = ", ".join(scalar(f"{folder}/{name}") for name in ("kernels.lock", "kernels.yaml"))
    extends, variables = _GITLAB_JOB.splitlines()
    cache = f"  cache:\n    key:\n      files: [{files}]"
    return f"{extends}\n{cache}\n{variables}\n    BPFMATRIX_FOLDER: {scalar(folder)}\n"


def _steps(found: Findings, folder: str) -> Iterator[str]:
    """Give the steps of a GitHub job before bpfmatrix: what builds the objects and the tests."""
    if found.module:
        go_mod = str(PurePosixPath(folder, found.module.folder, "go.mod"))
        yield "      - uses: actions/setup-go@v6\n"
        yield f"        with: {{go-version-file: {scalar(go_mod)}}}\n"
    commands = dict.fromkeys((*(one.first for one in found.objects if one.first), *found.first))
    for command in commands:
        yield f"      - run: {command}\n"
        if folder:
            yield f"        working-directory: {scalar(folder)}\n"


def kernels_yaml(found: Findings, kernels: KernelList) -> str:
    """Return the text of kernels.yaml."""
    parts = [
        f"# yaml-language-server: $schema={_SCHEMA}\n"
        + _comment(
            "The kernels that this project claims to support, and what is loaded and run on each. "
            "`bpfmatrix init` wrote this first version from what it found. Every key is described "
            f"in {page('kernels-yaml.md')}"
        ),
        *_defaults(found),
        _kernels(kernels),
        _payload(found),
        _verify(found),
    ]
    return "\n".join(part for part in parts if part)


def scalar(text: str) -> str:
    """Return a string as YAML, in quotes if it needs them."""
    if _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return text
    import yaml  # noqa: PLC0415 - not needed for most texts

    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=math.inf)
    return quoted.strip()


def _comment(text: str, indent: str = "") -> str:
    begin = f"{indent}# "
    return (
        textwrap.fill(
            text,
            _WIDTH,
            initial_indent=begin,
            subsequent_indent=begin,
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
    )


def _defaults(found: Findings) -> Iterator[str]:
    if found.arch != DEFAULT.name:
        yield f"defaults:\n  arch: {found.arch}\n"


def _kernels(kernels: KernelList) -> str:
    lines = ["kernels:\n"]
    for one in kernels.kernels:
        entry = f"  {json.dumps(one.id)}: {{source: {one.source}}}\n"
        if one.unchecked:
            lines.append(_comment(f"Not checked: {one.unchecked}.", "  "))
        if one.why_not:
            lines.append(_comment(f"Left out: {one.why_not}. Remove the # below to try it.", "  "))
            entry = f"  # {entry.lstrip()}"
        lines.append(entry)
    if any(one.unchecked or one.why_not for one in kernels.kernels):
        lines.append(_comment("`bpfmatrix doctor` asks these sources again.", "  "))
    lines.append(
        _comment(f"Others: `bpfmatrix kernels.search TEXT`, and {page('kernel-sources.md')}", "  ")
    )
    if not kernels.ids:
        lines.append(
            _comment("No source answered with a kernel, so one is needed here: see above.", "  ")
        )
    return "".join(lines)


def _payload(found: Findings) -> str:
    lines = ["payload:\n"]
    lines += _ebpf(found)
    lines += _go(found)
    lines += _binaries(found)
    lines += _runners(found)
    if found.is_empty and not found.foreign_commands:
        lines.append(_EXAMPLES)
    return "".join(lines)


def _ebpf(found: Findings) -> Iterator[str]:
    if found.make:
        (one,) = found.make[:1]
        yield _comment(
            f"make in this folder builds eBPF objects ({counted(one.sources, 'source')}). They are "
            "built before each run, and loaded by `verify`; tests find them by the environment "
            "variable BPFMATRIX_OBJECTS.",
            "  ",
        )
        yield f"  ebpf: {scalar(one.folder)}\n"
    else:
        yield "  ebpf: null # no folder whose make leaves eBPF objects (*.o) beside their sources\n"


def _go(found: Findings) -> Iterator[str]:
    module = found.module
    if module is None:
        yield "  go: null # no Go tests\n"
        return
    if module.reaching:
        yield _comment(
            f"Go tests. Of {counted(module.tested, 'package')} with tests, {module.reaching} "
            f"{'has' if module.reaching == 1 else 'have'} to do with eBPF.",
            "  ",
        )
    else:
        yield _comment(
            f"Go tests: {counted(module.tested, 'package')}, none of which mentions eBPF.", "  "
        )
    yield "  go:\n"
    yield f"    module: {scalar(module.folder)}\n"
    if module.packages != ("./...",):
        yield from _list("packages", module.packages, "    ")
    yield f"    tags: [{', '.join(map(scalar, module.tags))}]\n"
    if module.cgo:
        yield "    cgo: true # these packages call C\n"
        yield "  rootfs: host # test binaries with cgo need the libraries of a root\n"
    for other in found.other_modules:
        yield _comment(
            f"Another Go module with tests is {other.folder}. One kernels.yaml has one module; "
            f"`cd {other.folder} && bpfmatrix init --here` writes a kernels.yaml for that.",
            "  ",
        )


def _binaries(found: Findings) -> Iterator[str]:
    built = [(path, one.are_static) for one in found.make for path in one.tests]
    tests = dict([*built, *((one.path, one.is_static) for one in found.executables)])
    if not tests:
        return
    yield _comment("Test executables. Each is a test that passes if it exits with 0.", "  ")
    yield from _list("binaries", list(tests)[:_MANY], "  ")
    if left := list(tests)[_MANY:]:
        yield _comment(f"... and {len(left)} more, such as {left[0]}", "    ")
    if not all(tests.values()) and not (found.module and found.module.cgo):
        yield "  rootfs: host # some of these are dynamically linked, and need a root's libraries\n"


def _runners(found: Findings) -> Iterator[str]:
    if not found.foreign_commands:
        return
    yield _comment(
        "Tests that another test runner starts need no entry here. It runs each in a guest of its "
        f"own ({page('test-runners.md')}), by",
        "  ",
    )
    for commands in found.foreign_commands:
        yield from (f"  #   {command}\n" for command in commands)


_EXAMPLES = """\
  # Nothing was found to load or to run. Declare what there is, as in these examples:
  #
  # ebpf: bpf                               # a folder whose make leaves eBPF objects there
  # go: {module: ., tags: [integration]}    # a Go module, and the build tags of its tests
  # binaries: [build/test_loader]           # static executables, each of which is a test

# Objects without a test are loaded, program by program, with:
# verify:
#   objects:
#     - path: build/*.bpf.o
"""


def _verify(found: Findings) -> str:
    if not found.objects and found.make and found.loaders != ("libbpf",):
        return f"verify:\n  loader: {found.loaders[0]} # the library that this project loads with\n"
    if not found.objects:
        if not found.sources:
            return ""
        return _comment(
            f"There are eBPF sources, such as {found.sources[0]}, and no objects. When they are "
            "built, name the objects here: verify: {objects: [{path: build/*.bpf.o}]}"
        )
    lines = ["verify:\n"]
    several = len(found.loaders) > 1
    if not several:
        lines.append(f"  loader: {found.loaders[0]} # the library that this project loads with\n")
    lines.append("  objects:\n")
    lines.append(
        _comment(
            "What a program sets at run time before it loads an object, such as constants and the "
            f"sizes of maps, is set here by `set` and `map_sizes`: {page('verify.md')}",
            "    ",
        )
    )
    for folder in found.make:
        path = "*.o" if folder.folder == "." else f"{folder.folder}/*.o"
        lines.append(f"    - path: {scalar(path)} # built by make, see payload.ebpf\n")
        if several:
            lines.append(f"      loader: {folder.loader}\n")
    said = ""
    for group in found.objects:
        if group.first and group.first == said:
            pass
        elif group.first:
            lines.append(_comment(f"Built by `{group.first}`, which has to be run first.", "    "))
        elif not group.count:
            lines.append(_comment("Made by `go generate`, which has to be run first.", "    "))
        said = group.first
        lines.append(f"    - path: {scalar(group.pattern)}\n")
        if several:
            lines.append(f"      loader: {group.loader}\n")
    return "".join(lines)


def _list(key: str, values: Iterable[str], indent: str) -> Iterator[str]:
    """Give the lines of a list: one line if that is short enough."""
    words = [scalar(value) for value in values]
    short = f"{indent}{key}: [{', '.join(words)}]\n"
    if len(short) <= _WIDTH and not any(word[0] in "[{" or "," in word for word in words):
        yield short
        return
    yield f"{indent}{key}:\n"
    for word in words:
        yield f"{indent}  - {word}\n"
