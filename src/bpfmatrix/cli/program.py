"""The program `bpfmatrix`: invoke's own `Program`, with the tasks as its commands.

Most of invoke's own options are about shell commands of tasks, and these tasks have none. The
program does not know them.
"""

import re
from typing import Any

from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext
from invoke.program import Program
from invoke.vendor.lexicon import Lexicon

from bpfmatrix import __version__
from bpfmatrix.cli.standard_streams import forgiving_streams
from bpfmatrix.cli.tasks import namespace
from bpfmatrix.cli.tasks.invoke_changes import UNLISTED
from bpfmatrix.errors import suggestion
from bpfmatrix.host.front_end import command

__all__ = ["make_program"]

_HELP = {
    "help": ("-h, --help", "Show this, or the options of a command: bpfmatrix run --help."),
    "list": ("-l, --list", "List the commands."),
    "version": ("-V, --version", "Show the version."),
}
_ABOUT = (
    "bpfmatrix loads and tests eBPF on many kernels, each in a throw-away QEMU machine.\n"
    "It needs no root and no KVM. kernels.yaml lists the kernels."
)
# What to type first: those of these commands that there are.
_FIRST = {
    "init": ("init", "Look at the project in this folder, and write its kernels.yaml."),
    "doctor": ("doctor", "Show what this machine has and lacks."),
    "run": ("run 6.1", "Load and test the eBPF on one kernel of kernels.yaml."),
    "matrix": ("matrix", "The same on all of them, in one table."),
}
# Commands that had another name, each with the name that it has now.
_RENAMED = {"pylines": "bytecode-lines"}
# What invoke says of a word that it does not know, and of an option without its value.
_UNKNOWN = re.compile(r"No idea what '(.*)' is!", re.DOTALL)
_NO_VALUE = re.compile(r"Flag --(\S+) needed value")


def make_program() -> Program:
    """Return the program; its `run` runs the command of the command line, and ends the process."""
    return _Program(version=__version__, namespace=namespace, name="bpfmatrix", binary="bpfmatrix")


class _Program(Program):
    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:
        with forgiving_streams():
            super().run(argv, exit)

    def normalize_argv(self, argv: list[str] | None) -> None:
        super().normalize_argv(argv)
        if self.argv[1:2] == ["help"]:
            self.argv = [self.argv[0], "--help", *self.argv[2:]]

    def create_config(self) -> None:
        # Without the files of invoke's own configuration: they are about what is left out here.
        self.config = self.config_class(lazy=True)

    def core_args(self) -> list[Argument]:
        return [each for each in super().core_args() if each.name in (*_HELP, *UNLISTED)]

    @property
    def args(self) -> Any:
        """The options before the command. Those that are left out are there for invoke's code."""
        known: Any = Lexicon({each.name: each for each in super().core_args()})  # type: ignore[no-untyped-call]
        known.update(self.core[0].args)
        return known

    def parse_core(self, argv: list[str] | None) -> None:
        try:
            super().parse_core(argv)
        except ParseError as error:
            raise self._usage(error) from None

    def parse_tasks(self) -> None:
        try:
            super().parse_tasks()
        except ParseError as error:
            raise self._usage(error) from None

    def parse_cleanup(self) -> None:
        asked = self.args.help.value
        if isinstance(asked, str) and asked not in self.parser.contexts:
            raise self._unknown(asked, None)
        super().parse_cleanup()

    def update_config(self, merge: bool = True) -> None:
        """Leave the configuration as it is: no option of the command line is about it."""

    def _usage(self, error: ParseError) -> Exit:
        """Return what ends the process after a wrong command line."""
        text = str(error).partition("\nRun: ")[0]
        context = error.context if error.context and error.context.name else None
        if match := _UNKNOWN.fullmatch(text):
            return self._unknown(match[1], context)
        if (match := _NO_VALUE.match(text)) and context and match[1] in context.args:
            text = f"--{match[1]} needs a value: {context.args[match[1]].help}"
        return _exit(text, context)

    def _unknown(self, word: str, context: ParserContext | None) -> Exit:
        is_option = word.startswith("-")
        if context is None and word in _RENAMED:
            return _exit(f"{word}: this command is now {_RENAMED[word]}", None)
        if context is None:
            known = self.initial_context.flags if is_option else self.collection.task_names
            what = "option" if is_option else "command"
            return _exit(f"{word}: there is no such {what}{suggestion(word, known)}", None)
        if is_option:
            close = suggestion(word, context.flags)
            return _exit(f"{word}: {context.name} has no such option{close}", context)
        close = suggestion(word, self.collection.task_names)
        return _exit(f"{word}: {context.name} takes no such word{close}", context)

    def print_help(self) -> None:
        names = self.collection.task_names
        first = [each for name, each in _FIRST.items() if name in names]
        print(f"{_ABOUT}\n\nUsage: bpfmatrix COMMAND [OPTIONS]\n\nBegin with:\n")
        self.print_columns([(f"bpfmatrix {words}", help) for words, help in first])
        self.list_tasks()
        print("Options:\n")
        self.print_columns(list(_HELP.values()))

    def task_list_opener(self, extra: str = "") -> str:
        return "Commands"

    def print_task_help(self, name: str) -> None:
        import inspect  # noqa: PLC0415 - off the start-up path

        options = self.parser.contexts[name].help_tuples()
        print(f"Usage: bpfmatrix {name}{' [OPTIONS]' if options else ''}\n")
        print(f"{inspect.getdoc(self.collection[name]) or ''}\n")
        if options:
            print("Options:\n")
            self.print_columns(options)


def _exit(what: str, context: ParserContext | None) -> Exit:
    help = command(f"{context.name} --help" if context else "--help")
    return Exit(f"error: {what}\n       Run: {help}", code=2)
