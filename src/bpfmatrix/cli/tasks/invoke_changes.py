"""Changes to invoke (2.2 to 3.0), which lacks what these tasks need. Importing this makes them.

- A task can take words without the name of an option, as in `invoke verify a.o b.o` and `invoke run
  6.1`: invoke gives words only to arguments that have to be given, one to each. See `take_words`.
- After one of these tasks, a letter of invoke's own is refused, except -h: invoke would take the -r
  of `invoke run -r TestA` for its --search-root, and run all tests.
- `invoke -l` lists tasks in the order in which they were added; invoke sorts them by name.
- A task without a word that it needs begins, and its own message says what is missing.
- The help of a task shows its options in the order of their declaration, and what each one takes.
- Completion in a shell knows values of options, too: invoke completes names of options and tasks.
"""

import dataclasses
import functools
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import invoke.collection
import invoke.program
from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext
from invoke.parser.parser import ParseMachine
from invoke.vendor.lexicon import Lexicon

from bpfmatrix.cli.options import AnyOption
from bpfmatrix.cli.tasks.declaration import OptionArgument
from bpfmatrix.host.front_end import FrontEnd, command, front_end

if TYPE_CHECKING:
    from bpfmatrix.cli.completion.candidates import Command

__all__ = ["UNLISTED", "take_words"]

# Options of invoke that work with bpfmatrix, and are for scripts: its help does not show them.
UNLISTED = ("complete", "list-depth", "list-format", "print-completion-script")

_word_options: dict[str, str] = {}


def take_words(task: str, option: AnyOption) -> None:
    """Give the words after a task that are neither options nor tasks to an option.

    If the option is not a repeated one, it takes one word, unless it has a value already.
    """
    _word_options[task] = option.name


# These are functions put into invoke's classes: a subclass would not be used, and a subclass of
# ParseMachine would also lack the states of the machine.
_handle = ParseMachine.handle
_complete_context = ParseMachine.complete_context
_help_tuples = ParserContext.help_tuples


def _handle_token(machine: ParseMachine, token: str) -> None:
    context = machine.context
    if context is None or machine.current_state == "unknown" or machine.waiting_for_flag_value:
        _handle(machine, token)
        return
    if token in ("-h", "--help") and context is not machine.initial:
        _ask_for_help(machine, context)
        return
    option = _word_options.get(context.name or "")
    is_task = token in machine.contexts
    if option is not None and not is_task and _is_for(context.args[option], token):
        context.args[option].value = token
    elif _is_invokes_letter(machine, token) and _has_options_of_the_table(context):
        program = "bpfmatrix" if front_end(sys.argv[0]) is FrontEnd.BPFMATRIX else "invoke"
        machine.error(
            f"{token} is not an option of {context.name}, but of {program} itself: it goes before "
            f"{context.name}.\nRun: {command(f'--help {context.name}')}"
        )
    else:
        _handle(machine, token)


def _ask_for_help(machine: ParseMachine, context: ParserContext) -> None:
    """Have invoke print the help of a task; it would take `--help` for a word that has to be given.

    The words that are missing get a value, since without it invoke would refuse the command line.
    """
    machine.initial.flags["--help"].value = context.name
    for argument in context.missing_positional_args:
        argument.value = ""


def _complete_task(machine: ParseMachine) -> None:
    """Let a task begin without the words that it needs: `values.read` says what is missing."""
    context = machine.context
    if context is not None and _has_options_of_the_table(context):
        for argument in context.missing_positional_args:
            argument.value = ""
    _complete_context(machine)


def _is_for(argument: Argument, token: str) -> bool:
    is_open = argument.kind is list or not argument.got_value
    return is_open and not token.startswith("-")


def _is_invokes_letter(machine: ParseMachine, word: str) -> bool:
    is_letter = len(word) == 2 and word in machine.initial.flags
    return is_letter and word not in machine.context.flags and word != "-h"


def _has_options_of_the_table(context: ParserContext) -> bool:
    arguments = list(context.args.values())
    return bool(arguments) and all(isinstance(one, OptionArgument) for one in arguments)


def _help_of_options(context: ParserContext) -> list[tuple[str, str | None]]:
    if not _has_options_of_the_table(context):
        return _help_tuples(context)
    return [(argument.usage, argument.help) for argument in context.args.values()]


class _InOrder(Lexicon):
    """Tasks that sorted() leaves in the order in which they were added."""

    class _Pair(tuple):  # type: ignore[type-arg]
        def __lt__(self, other: object) -> bool:
            return False

    def items(self) -> Any:
        """Return the pairs of name and task."""
        return [self._Pair(pair) for pair in super().items()]


def _complete(
    names: list[str], core: Any, initial_context: ParserContext, collection: Collection, parser: Any
) -> None:
    """Print what can be typed at the end of a command line; see invoke's `complete`."""
    from bpfmatrix.cli.completion import candidates, shells, values

    commands = {
        name: _command(context, inspect.getdoc(collection[name]) or "")
        for name, context in parser.contexts.items()
    }
    known = values.Known(Path.cwd())
    core_command = _command(initial_context)
    if front_end(sys.argv[0]) is FrontEnd.BPFMATRIX:
        listed = (each for each in core_command.arguments if each.name not in UNLISTED)
        core_command = dataclasses.replace(core_command, arguments=tuple(listed))

    def ask(words: Sequence[str], current: str) -> list[candidates.Candidate]:
        of_option = functools.partial(values.values, known)
        return candidates.candidates(words, current, core_command, commands, of_option)

    words = sys.argv[1:]
    after = words[words.index("--") + 1 :] if "--" in words else []
    sys.stdout.write(shells.answer(ask, after, os.environ))
    raise Exit


def _command(context: ParserContext, help: str = "") -> "Command":
    from bpfmatrix.cli.completion.candidates import Argument, Command

    of_words = _word_options.get(context.name or "")
    arguments = (
        Argument(
            each.name,
            each.help or "",
            next((name for name in each.names if len(name) == 1), ""),
            # The value of --help and --list can be left out.
            takes_value=each.takes_value and not each.optional,
            repeated=each.kind is list,
            positional=each.positional or each.name == of_words,
        )
        for each in context.args.values()
    )
    return Command(context.name or "", help, tuple(arguments), wraps=context.name == "exec")


invoke.program.complete = _complete  # type: ignore[assignment, attr-defined]
ParseMachine.handle = _handle_token  # type: ignore[assignment, method-assign]
ParseMachine.complete_context = _complete_task  # type: ignore[assignment, method-assign]
ParserContext.help_tuples = _help_of_options  # type: ignore[assignment, method-assign]
# Not only our own collections: invoke copies the one of a tasks.py into a collection that it makes.
invoke.collection.Lexicon = _InOrder  # type: ignore[attr-defined]
