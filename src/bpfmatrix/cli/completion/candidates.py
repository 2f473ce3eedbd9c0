"""What can stand at the end of a command line: commands, options, and values of options.

All of it is data. `shells` reads the command line of a shell, and `values` has the values of a
project.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Argument", "Candidate", "Command", "candidates"]


@dataclass(frozen=True)
class Candidate:
    """A word that can stand there, and what it means; the meaning may be empty."""

    text: str
    help: str = ""


@dataclass(frozen=True)
class Argument:
    """An option of a command."""

    name: str
    """Without dashes, such as `kernel`."""
    help: str = ""
    letter: str = ""
    takes_value: bool = True
    repeated: bool = False
    positional: bool = False
    """Whether its name can be left out, once or, if it is repeated, any number of times."""

    @property
    def flags(self) -> tuple[str, ...]:
        """The option as it is typed: `--kernel` and `-k`."""
        return (f"--{self.name}", *((f"-{self.letter}",) if self.letter else ()))


@dataclass(frozen=True)
class Command:
    """A command, or what precedes all commands, whose name is empty."""

    name: str = ""
    help: str = ""
    arguments: tuple[Argument, ...] = ()
    wraps: bool = False
    """Whether a word that is no option begins another program's command line, as for `exec`."""

    def having(self, flag: str) -> Argument | None:
        """Return the option with this flag, such as `-k`."""
        return next((each for each in self.arguments if flag in each.flags), None)


Values = Callable[[Argument, str], Iterable[Candidate]]
"""Gives the values of an option that begin with a text. Others among them are left out."""


@dataclass
class _Place:
    """The place at the end of a command line."""

    command: Command
    given: set[str] = field(default_factory=set)
    """The names of the options that the command has got."""
    waiting: Argument | None = None
    """The option whose value is next."""

    @property
    def positional(self) -> Argument | None:
        """The option that takes the next word."""
        for each in self.command.arguments:
            if each.positional and (each.repeated or each.name not in self.given):
                return each
        return None


def candidates(
    words: Sequence[str],
    current: str,
    core: Command,
    commands: Mapping[str, Command],
    values: Values,
) -> list[Candidate]:
    """Return what `current`, the beginning of the last word, can become; `words` precede it.

    The list is empty where any word can stand, or the name of a file.
    """
    place = _walk(words, core, commands)
    if place is None:
        return []
    if place.waiting is not None:
        found = values(place.waiting, current)
    elif current.startswith("--") and "=" in current:
        name, _, begun = current.partition("=")
        option = place.command.having(name)
        known = values(option, begun) if option and option.takes_value else ()
        found = [Candidate(f"{name}={each.text}", each.help) for each in known]
    elif current.startswith("-"):
        found = _flags(place, core)
    else:
        found = _words(place, current, commands, values)
    unique = {each.text: each for each in found if each.text.startswith(current)}
    return list(unique.values())


def _words(
    place: _Place, current: str, commands: Mapping[str, Command], values: Values
) -> Iterable[Candidate]:
    if not place.command.name:
        return [Candidate(each.name, each.help) for each in commands.values()]
    if (option := place.positional) is not None:
        return values(option, current)
    # A further command could follow, but an option is what is looked for there.
    return [] if current or place.command.wraps else _flags(place, None)


def _flags(place: _Place, core: Command | None) -> list[Candidate]:
    """Return the long names of the options that the command has not got yet."""
    open_ = [
        Candidate(f"--{each.name}", each.help)
        for each in place.command.arguments
        if each.repeated or each.name not in place.given
    ]
    help = core.having("--help") if core and place.command.name else None
    return [*open_, *([Candidate("--help", help.help)] if help else [])]


def _walk(words: Sequence[str], core: Command, commands: Mapping[str, Command]) -> _Place | None:
    """Return the place behind these words; None in the command line of another program."""
    place = _Place(core)
    for word in words:
        if place.waiting is not None:
            place.waiting = None
        elif word == "--":
            return None
        elif word.startswith("-") and word != "-":
            flag, equals, _ = word.partition("=")
            option = place.command.having(flag)
            if option is not None:
                place.given.add(option.name)
                place.waiting = option if option.takes_value and not equals else None
        elif word in commands and not (place.positional and not place.positional.repeated):
            place = _Place(commands[word])
        elif place.command.wraps:
            return None
        elif place.positional is not None:
            place.given.add(place.positional.name)
    return place
