"""How a task of invoke is declared: from a function that takes `Values`, and from its options.

By itself, invoke would read a task's options off the signature of its function, and choose their
letters separately for each task. Here both come from the table in `bpfmatrix.cli.options`.
"""

import sys
from collections.abc import Callable
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.tasks import Task

from bpfmatrix.cli import heartbeat
from bpfmatrix.cli.errors import exit_status_of
from bpfmatrix.cli.options import AnyOption, OptionKind
from bpfmatrix.cli.values import Values, read
from bpfmatrix.host import interrupts
from bpfmatrix.host.text import inert

__all__ = ["OptionArgument", "OptionTask", "option_task", "progress"]

_INTERRUPTED = 128 + 2  # as a shell says of a command that SIGINT ended


class OptionArgument(Argument):
    """An option, as invoke's parser sees it."""

    def __init__(self, option: AnyOption) -> None:
        # The values are parsed by `read`; a list collects those of a repeated option.
        kinds = {OptionKind.FLAG: bool, OptionKind.VALUE: str, OptionKind.REPEATED: list}
        super().__init__(
            names=(option.name, option.letter) if option.letter else (option.name,),
            kind=kinds[option.kind],
            default=False if option.kind is OptionKind.FLAG else None,
            help=option.help,
            positional=option.required or option.positional,
        )
        value = f"={option.metavar}" if option.metavar else ""
        letter = f"-{option.letter}{value.replace('=', ' ')}, " if option.letter else ""
        self.usage = f"{letter}--{option.name}{value}"
        """How the option is typed, for the help text."""

    def __repr__(self) -> str:
        # invoke's messages have it: "Flag --kernel needed value and was not given one!"
        return f"--{self.name}"


class OptionTask(Task[Callable[..., None]]):
    """A task whose options are those of the table."""

    def __init__(
        self, name: str, function: Callable[[Values], int | None], options: tuple[AnyOption, ...]
    ) -> None:
        def body(_: Context, **typed: Any) -> None:
            _run(function, options, typed)

        body.__doc__ = function.__doc__
        body.__module__ = function.__module__
        super().__init__(body, name=name, positional=())
        self.options = options

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the options for invoke's parser; see Task."""
        return [OptionArgument(option) for option in self.options]


def option_task(
    *options: AnyOption, name: str = ""
) -> Callable[[Callable[[Values], int | None]], OptionTask]:
    """Make a task of a function that returns an exit status, or None, which means 0.

    The task has the name of the function, with hyphens, unless `name` is given. An error that the
    user can correct is printed without a traceback.
    """

    def decorate(function: Callable[[Values], int | None]) -> OptionTask:
        return OptionTask(name or function.__name__.replace("_", "-"), function, options)

    return decorate


def _run(
    function: Callable[[Values], int | None], options: tuple[AnyOption, ...], typed: dict[str, Any]
) -> None:
    try:
        with interrupts.raised():
            status = exit_status_of(lambda: function(read(options, typed, _after_dashes())))
    except KeyboardInterrupt:
        raise Exit(code=_INTERRUPTED) from None
    if status:
        raise Exit(code=status)


def _after_dashes() -> tuple[str, ...]:
    """Return the words after `--`; invoke only has them joined to one text."""
    words = sys.argv[1:]
    return tuple(words[words.index("--") + 1 :]) if "--" in words else ()


def progress(text: str, fraction: float | None = None) -> None:
    """Print each new text of a step's progress on standard error; a `Progress`."""
    if _printed[-1:] != [text]:
        _printed[:] = [text]
        heartbeat.doing(progress, "", text)
        print(inert(text), file=sys.stderr, flush=True)


_printed: list[str] = []
