"""The process of a keeper: `python -m bpfmatrix.cli.keeper`, which `bpfmatrix exec` starts.

It takes the command lines of `bpfmatrix exec` apart.
"""

import asyncio
import dataclasses
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bpfmatrix.cli import options
from bpfmatrix.cli.kernel_choice import one_kernel
from bpfmatrix.cli.options import OptionKind
from bpfmatrix.cli.values import Values, read, session_options
from bpfmatrix.config import kernels_yaml
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError, suggestion
from bpfmatrix.exec.folders import with_folders_of
from bpfmatrix.exec.keeper import Keeper, Wanted
from bpfmatrix.exec.messages import Call

__all__ = ["CommandLines", "main"]


def main(words: Sequence[str]) -> None:
    """Serve calls: `words` are the descriptors of the listening socket and of the runner (a pidfd),
    and perhaps --alone.
    """
    listener, runner = socket.socket(fileno=int(words[0])), int(words[1])
    with TemporaryDirectory(prefix="bpfmatrix-") as folder:
        keeper = Keeper(listener, CommandLines().read, Path(folder), alone="--alone" in words)
        asyncio.run(keeper.serve(runner))


class CommandLines:
    """Reads command lines. It reads a kernels.yaml again only if the file has changed."""

    def __init__(self) -> None:
        self._known: dict[object, tuple[Project, str]] = {}

    def read(self, call: Call) -> Wanted:
        """See Keeper."""
        typed, command = _split(call.words)
        values = read(options.EXEC, typed, command)
        if not command:
            raise UsageError(
                "bpfmatrix exec: there is no command",
                "Write it after the options: bpfmatrix exec --kernel 6.1 ./a.test",
            )
        project, id = self._kernel(values)
        if "rootfs" not in typed and project.config.payload.rootfs is None:
            values = read(options.EXEC, {**typed, "rootfs": "host"}, command)
        asked = session_options(values, project)
        files = with_folders_of(asked.files, command[0], Path.cwd(), project.root)
        asked = dataclasses.replace(asked, files=files)
        return Wanted(project, id, asked, values[options.ENV], command)

    def _kernel(self, values: Values) -> tuple[Project, str]:
        root, image = Project.root_above(Path.cwd()), values[options.IMAGE]
        files = (kernels_yaml.place_in(root), *((image.absolute(),) if image else ()))
        key = (values[options.KERNEL], *map(_identity, files))
        if key not in self._known:
            self._known[key] = one_kernel(values)
        return self._known[key]


def _identity(path: Path) -> object:
    """Return what changes when a file does."""
    try:
        found = path.stat()
    except OSError:
        return path
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _split(words: Sequence[str]) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return the options at the beginning of a command line, and the command after them.

    The command begins at the first word that is no option, or after `--`: its own options are not
    ours. UsageError for an unknown option.
    """
    known = {f"--{option.name}": option for option in options.EXEC}
    known |= {f"-{option.letter}": option for option in options.EXEC if option.letter}
    typed: dict[str, object] = {}
    left = list(words)
    while left and left[0].startswith("-"):
        word = left.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        option = known.get(name)
        if option is None:
            raise UsageError(
                f"bpfmatrix exec: {name}: no such option{suggestion(name, known)}",
                "Run `bpfmatrix exec --help` for the options; the command follows after them.",
            )
        if option.kind is OptionKind.FLAG:
            if equals:
                raise UsageError(f"bpfmatrix exec: {name} takes no value")
            typed[option.name] = True
            continue
        if not equals and not left:
            raise UsageError(f"bpfmatrix exec: {name} needs a value: {option.help}")
        text = value if equals else left.pop(0)
        if option.kind is OptionKind.REPEATED:
            several = typed.setdefault(option.name, [])
            assert isinstance(several, list)
            several.append(text)
        else:
            typed[option.name] = text
    return typed, tuple(left)


if __name__ == "__main__":
    # Nothing that is printed here reaches a client, unless the keeper ends before it took a call.
    main(sys.argv[1:])
