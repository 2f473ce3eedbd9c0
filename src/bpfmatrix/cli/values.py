"""The values of a command's options: read once, and made into what the library takes.

`read` checks what was typed, for nox and invoke alike. Each function below it turns one group of
options into the library's own value. An option that a command does not have, has its default.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bpfmatrix.cli import options
from bpfmatrix.cli.options import AnyOption, Option, OptionKind
from bpfmatrix.errors import UsageError

if TYPE_CHECKING:
    from bpfmatrix.config.project import Project
    from bpfmatrix.config.settings import Settings
    from bpfmatrix.debug.options import DebugOptions
    from bpfmatrix.session.options import SessionOptions
    from bpfmatrix.suite.options import RunOptions
    from bpfmatrix.verify.options import VerifyOptions
    from bpfmatrix.verify.selection import Selection

__all__ = [
    "Values",
    "debug_options",
    "guest_words",
    "read",
    "run_options",
    "selection",
    "session_options",
    "verify_options",
]

T = TypeVar("T")


class Values:
    """What a command's options mean, by option: `values[options.RUN]`."""

    def __init__(self, known: Mapping[str, Any], arguments: Iterable[str] = ()) -> None:
        self._known = known
        self.arguments = tuple(arguments)
        """The words after `--`."""

    def __getitem__(self, option: Option[T]) -> T:
        """Return the value of an option, or its default if it was not given."""
        found: T = self._known.get(option.name, option.default)
        return found


def read(
    declared: Iterable[AnyOption], typed: Mapping[str, Any], arguments: Iterable[str] = ()
) -> Values:
    """Check the options of a command.

    `typed` has the texts by the options' names: a text, or a list of texts for a repeated option, a
    truth value for a flag, and None for what was not given. UsageError names the option that is
    wrong, or missing.
    """
    known = {}
    for option in declared:
        given = typed.get(option.name)
        if option.positional and given == "":
            given = None  # invoke gives this to a word that is missing
        if option.required and not given:
            raise _missing(option)
        if option.kind is OptionKind.REPEATED:
            known[option.name] = tuple(_parsed(option, text) for text in given or ())
        elif given is not None:
            known[option.name] = given if option.kind is OptionKind.FLAG else _parsed(option, given)
    return Values(known, arguments)


def _missing(option: AnyOption) -> UsageError:
    """Return the error of a command without an option that it needs."""
    if option.name != options.KERNEL.name:
        return UsageError(f"--{option.name} is missing: {option.help}")
    from bpfmatrix.cli.kernel_choice import no_kernel
    from bpfmatrix.config.project import Project

    return no_kernel(Project.load())


def _parsed(option: AnyOption, text: str) -> Any:
    try:
        return option.parse(text)
    except ValueError as error:
        shown = text or "''"
        raise UsageError(f"--{option.name} {shown}: {error}") from None


def _guest(values: Values, project: "Project") -> dict[str, Any]:
    """Return the fields of SessionOptions, which RunOptions has too."""
    from bpfmatrix.virtiofs.shares import chosen_files

    payload = project.config.payload
    declared, typed = (
        (payload.rootfs, payload.share),
        (values[options.ROOTFS], values[options.SHARE]),
    )
    return {
        "cold": values[options.COLD],
        "files": chosen_files(project.root, declared, typed),
        "network": (values[options.NET] or payload.network) == "user",
        "core": values[options.CORE],
        "dump": values[options.DUMP],
        "settings": _settings(values),
    }


def declared_options(project: "Project") -> "SessionOptions":
    """Return what a project declares for its guest sessions, with nothing on a command line."""
    from bpfmatrix.session.options import SessionOptions
    from bpfmatrix.virtiofs.shares import chosen_files

    payload = project.config.payload
    files = chosen_files(project.root, (payload.rootfs, payload.share), (None, ()))
    return SessionOptions(files=files, network=payload.network == "user")


def _settings(values: Values) -> "Settings":
    from bpfmatrix.config.settings import Settings

    typed = {
        "user": values[options.USER],
        "capabilities": values[options.CAPABILITIES],
        "memlock": values[options.MEMLOCK],
    }
    return Settings.model_validate({k: v for k, v in typed.items() if v is not None})


def session_options(values: Values, project: "Project") -> "SessionOptions":
    """Return what is asked of any guest session, by the command line and by the project."""
    from bpfmatrix.session.options import SessionOptions

    return SessionOptions(**_guest(values, project))


def run_options(values: Values, project: "Project", *, cached: bool = False) -> "RunOptions":
    """Return what is asked of a run of the tests; `cached` allows the results of earlier runs."""
    from bpfmatrix.suite.options import RunOptions

    return RunOptions(
        **_guest(values, project),
        run=values[options.RUN],
        binaries=values[options.BINARY],
        test_seconds=values[options.TIMEOUT],
        arguments=values.arguments,
        cached=cached,
        words=_words(values, project.root),
    )


def guest_words(values: Values) -> tuple[str, ...]:
    """Return the options of the guests, such as `--rootfs host`, as they can be typed again."""
    capabilities = values[options.CAPABILITIES]
    single: tuple[tuple[Option[str | None], str | None], ...] = (
        (options.ROOTFS, values[options.ROOTFS]),
        (options.NET, values[options.NET]),
        (options.USER, values[options.USER]),
        (options.MEMLOCK, values[options.MEMLOCK]),
    )
    words = [(option.name, text) for option, text in single if text is not None]
    words += [(options.SHARE.name, text) for text in values[options.SHARE]]
    if capabilities is not None:
        words.append((options.CAPABILITIES.name, ",".join(capabilities) or "none"))
    return tuple(word for name, text in words for word in (f"--{name}", text))


def _words(values: Values, root: Path) -> tuple[str, ...]:
    """Return the options with which tests run again, as they are typed in the project's folder."""
    paths = [os.path.relpath(path, root) for path in values[options.BINARY]]
    binaries = [word for path in paths for word in (f"--{options.BINARY.name}", path)]
    return (*binaries, *guest_words(values))


def verify_options(values: Values) -> "VerifyOptions":
    """Return what is asked of a verification."""
    from bpfmatrix.verify.options import VerifyOptions
    from bpfmatrix.verify.selection import Names

    filters = [one for several in values[options.FILTER] for one in several]
    loaders = values[options.LOADER]
    return VerifyOptions(
        objects=values[options.OBJECTS],
        names=tuple(one for one in filters if isinstance(one, Names)),
        loaders=loaders or (),
        presets=values[options.PRESET],
        set=dict(values[options.SET]),
        map_sizes=dict(values[options.MAP_SIZE]),
        attach=values[options.ATTACH],
        max_insns=values[options.MAX_INSNS],
        limit_seconds=values[options.LIMIT],
        cold=values[options.COLD],
        dump=values[options.DUMP],
    )


def selection(values: Values) -> "Selection":
    """Return what is shown of the results of a verification."""
    from bpfmatrix.verify.selection import Comparison, Selection

    filters = [one for several in values[options.FILTER] for one in several]
    return Selection(
        tuple(one for one in filters if isinstance(one, Comparison)),
        values[options.SORT],
        values[options.TOP],
    )


def debug_options(values: Values) -> "DebugOptions":
    """Return what is asked of a debugger; --json-port includes --attach-later."""
    from bpfmatrix.debug.options import DebugOptions

    return DebugOptions(
        breakpoints=values[options.BREAK],
        batch=values[options.BATCH],
        gdb_args=values[options.GDB_ARGS],
        attach_later=values[options.ATTACH_LATER] or values[options.JSON_PORT],
        port=values[options.PORT],
        json_port=values[options.JSON_PORT],
        vmlinux=values[options.VMLINUX],
        source=values[options.SOURCE],
        names=values[options.NAMES],
        vscode=values[options.VSCODE],
        accel=values[options.ACCEL],
    )
