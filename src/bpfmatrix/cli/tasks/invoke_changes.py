"""Changes to invoke (2.2 to 3.0), which lacks what these tasks need. Importing this makes them.

- A task can take any number of words, as in `invoke verify a.o b.o`: invoke gives a positional
  argument one word, and takes the next word for a task. See `take_words`.
- After one of these tasks, a letter of invoke's own is refused, except -h: invoke would take the -r
  of `invoke run -r TestA` for its --search-root, and run all tests.
- `invoke -l` lists tasks in the order in which they were added; invoke sorts them by name.
- The help of a task shows its options in the order of their declaration, and what each one takes.
"""

from typing import Any

import invoke.collection
from invoke.parser.context import ParserContext
from invoke.parser.parser import ParseMachine
from invoke.vendor.lexicon import Lexicon

from bpfmatrix.cli.options import AnyOption
from bpfmatrix.cli.tasks.declaration import OptionArgument
from bpfmatrix.host.front_end import command

__all__ = ["take_words"]

_word_options: dict[str, str] = {}


def take_words(task: str, option: AnyOption) -> None:
    """Give the words after a task that are neither options nor tasks to a repeated option."""
    _word_options[task] = option.name


# These are functions put into invoke's classes: a subclass would not be used, and a subclass of
# ParseMachine would also lack the states of the machine.
_handle = ParseMachine.handle
_help_tuples = ParserContext.help_tuples


def _handle_token(machine: ParseMachine, token: str) -> None:
    context = machine.context
    if context is None or machine.current_state == "unknown" or machine.waiting_for_flag_value:
        _handle(machine, token)
        return
    option = _word_options.get(context.name or "")
    if option is not None and not token.startswith("-") and token not in machine.contexts:
        context.args[option].value = token
    elif _is_invokes_letter(machine, token) and _has_options_of_the_table(context):
        machine.error(
            f"{token} is not an option of {context.name}, but of invoke itself: it goes before "
            f"{context.name}.\nRun: {command(f'--help {context.name}')}"
        )
    else:
        _handle(machine, token)


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


ParseMachine.handle = _handle_token  # type: ignore[assignment, method-assign]
ParserContext.help_tuples = _help_of_options  # type: ignore[assignment, method-assign]
# Not only our own collections: invoke copies the one of a tasks.py into a collection that it makes.
invoke.collection.Lexicon = _InOrder  # type: ignore[attr-defined]
