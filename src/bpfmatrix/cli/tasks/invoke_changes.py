"""What these tasks need of invoke, and invoke (2.2 to 3.0) lacks. Importing this changes invoke.

- A task can take any number of words, as in `invoke verify a.o b.o`: invoke gives a positional
  argument one word, and takes the next word for a task. See `take_words`.
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

__all__ = ["take_words"]

_word_options: dict[str, str] = {}


def take_words(task: str, option: AnyOption) -> None:
    """Give the words after a task, if they are no options and no tasks, to a repeated option."""
    _word_options[task] = option.name


# These are functions put into invoke's classes: a subclass would not be used, and a subclass of
# ParseMachine would also lack the states of the machine.
_handle = ParseMachine.handle
_help_tuples = ParserContext.help_tuples


def _handle_with_words(machine: ParseMachine, token: str) -> None:
    option = _word_options.get(machine.context.name or "") if machine.context else None
    if (
        option is None
        or machine.current_state == "unknown"
        or machine.waiting_for_flag_value
        or token.startswith("-")
        or token in machine.contexts
    ):
        _handle(machine, token)
    else:
        machine.context.args[option].value = token


def _help_of_options(context: ParserContext) -> list[tuple[str, str | None]]:
    arguments = list(context.args.values())
    if arguments and all(isinstance(argument, OptionArgument) for argument in arguments):
        return [(argument.usage, argument.help) for argument in arguments]
    return _help_tuples(context)


class _InOrder(Lexicon):
    """Tasks that sorted() leaves in the order in which they were added."""

    class _Pair(tuple):  # type: ignore[type-arg]
        def __lt__(self, other: object) -> bool:
            return False

    def items(self) -> Any:
        """Return the pairs of name and task."""
        return [self._Pair(pair) for pair in super().items()]


ParseMachine.handle = _handle_with_words  # type: ignore[assignment, method-assign]
ParserContext.help_tuples = _help_of_options  # type: ignore[assignment, method-assign]
# Not only our own collections: invoke copies the one of a tasks.py into a collection that it makes.
invoke.collection.Lexicon = _InOrder  # type: ignore[attr-defined]
