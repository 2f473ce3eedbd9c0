"""The forms of commands for what to type next after a run: with the kernel, and its options.

A command that a message names must work as it stands: a test that needs the host's files needs them
again under gdb, and a kernel of `--image` has no id in kernels.yaml. A command that could not work
is an empty text.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.config.kernel_ids import kernel_of, names_profile
from bpfmatrix.host.front_end import command

__all__ = ["PLAIN", "Again"]


@dataclass(frozen=True)
class Again:
    """How a run was started, or would be started again."""

    binaries: tuple[Path, ...] = ()
    """The executables of `--binary`, as they were typed."""
    guest: tuple[str, ...] = ()
    """The options of the guests, such as `--rootfs host`, as they are typed."""
    image: Path | None = None
    """The kernel of `--image`."""
    available: bool = False
    """Whether kernels of `--available` ran."""
    declared: frozenset[str] = frozenset()
    """With `available`, the kernels that kernels.yaml declares."""
    form: Callable[[str], str] = field(default=command, compare=False)
    """Puts the words of a task into the form that the front end takes: see `command`."""

    def run(self, kernel: str, test: str) -> str:
        """Return the command that runs one test on a kernel again."""
        if self.image:
            chosen = ["run", "--image", str(self.image)]
        elif self.available and not self._is_declared(kernel):
            chosen = ["matrix", "--available", "--kernels", kernel]
        else:
            chosen = ["run", "--kernel", kernel]
        return self._command(*chosen, *self._tests(test))

    def run_cold(self, kernel: str) -> str:
        """Return the command that boots a kernel again, and runs all there."""
        return self._command("run", "--kernel", kernel, "--cold")

    def debug(self, kernel: str, test: str, *more: str) -> str:
        """Return the command that runs a test under gdb."""
        chosen = self._one_kernel(kernel)
        return self._command("debug", *chosen, *self._tests(test), *more) if chosen else ""

    def debug_program(
        self, kernel: str, object: str, program: str, options: Sequence[str] = ()
    ) -> str:
        """Return the command that loads a program of an object under gdb."""
        chosen = self._one_kernel(kernel)
        words = ("--object", object, "--program", program, *options)
        return self._command("debug", *chosen, *words) if chosen else ""

    def _one_kernel(self, kernel: str) -> list[str]:
        """Return the option that names a kernel; nothing if none can."""
        if self.image:
            return ["--image", str(self.image)]
        return ["--kernel", kernel] if self._is_declared(kernel) else []

    def bisect(self, bad: str, test: str, good: str = "") -> str:
        """Return the command that finds since when a test fails."""
        return self._bisect(bad, good, *self._tests(test)) if test else ""

    def bisect_program(
        self, bad: str, good: str, object: str, program: str, options: Sequence[str] = ()
    ) -> str:
        """Return the command that finds since when a program does not load."""
        found = self._bisect(bad, good, "--program", program, object)
        return f"{found} {shlex.join(options)}" if found and options else found

    def verify(
        self,
        kernels: Sequence[str],
        object: str,
        choice: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> str:
        """Return the command that loads an object on kernels.

        `choice` says which program and what for, and `options` how it is loaded.
        """
        if self.image:
            return ""
        one = "--kernel" if len(kernels) == 1 else "--kernels"
        chosen = [one, ",".join(kernels)]
        if not all(map(self._is_declared, kernels)):
            chosen = ["--available", "--kernels", ",".join(kernels)]
        return self._command("verify", object, *choice, *chosen, *options)

    def _bisect(self, bad: str, good: str, *words: str) -> str:
        # It tries the releases that the sources of kernels.yaml have, with no profile.
        if self.image or names_profile(bad):
            return ""
        ends = ["--good", good, "--bad", bad] if good else []
        return self._command("bisect", *words, *ends)

    def _is_declared(self, kernel: str) -> bool:
        return not self.available or kernel_of(kernel) in self.declared

    def _tests(self, test: str) -> list[str]:
        binaries = [word for path in self.binaries for word in ("--binary", str(path))]
        return ["--run", test, *binaries, *self.guest]

    def _command(self, *words: str) -> str:
        return self.form(shlex.join(words))


PLAIN = Again()
"""A run of declared tests on declared kernels, without options."""
