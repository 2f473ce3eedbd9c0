"""Tasks that take any number of words, as in `invoke verify a.o b.o`.

invoke (2.2 to 3.0) gives a positional argument one word, and takes the next one for a task. Here,
the words behind such a task that are no option and no task's name are given to one of its
arguments, which is a list.
"""

from invoke.parser.parser import ParseMachine

__all__ = ["take"]

_TAKERS: dict[str, str] = {}


def take(task: str, argument: str) -> None:
    """Let the words behind a task go to an argument of it, an `iterable` one."""
    _TAKERS[task] = argument


# Not a subclass, which would have none of the machine's states.
_handle = ParseMachine.handle


def _with_words(machine: ParseMachine, token: str) -> None:
    argument = _TAKERS.get(machine.context.name or "") if machine.context else None
    if (
        argument is None
        or machine.current_state == "unknown"
        or machine.waiting_for_flag_value
        or token.startswith("-")
        or token in machine.contexts
    ):
        _handle(machine, token)
    else:
        machine.context.args[argument].value = token


ParseMachine.handle = _with_words  # type: ignore[assignment, method-assign]
