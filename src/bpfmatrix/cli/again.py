"""Commands for what to type next after a run: with the kernel, and the options that it had.

A command that a message names must work as it stands: a test that needs the host's files needs them
again under gdb, and a kernel of `--image` has no id in kernels.yaml. A command that could not work
is not named.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.cli import options
from bpfmatrix.cli.options import Option
from bpfmatrix.cli.values import Values
from bpfmatrix.config.kernel_ids import kernel_of, names_profile
from bpfmatrix.host.front_end import command

__all__ = ["PLAIN", "Again", "NextCommands"]


@dataclass(frozen=True)
class Again:
    """How a run was started."""

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

    @classmethod
    def of(cls, values: Values) -> "Again":
        """Return how a run was started, by the values of its options."""
        declared: frozenset[str] = frozenset()
        if values[options.AVAILABLE]:
            from bpfmatrix.config.project import Project

            declared = frozenset(Project.load().config.kernels)
        return cls(
            values[options.BINARY],
            _guest_words(values),
            values[options.IMAGE],
            values[options.AVAILABLE],
            declared,
        )

    def run(self, kernel: str, test: str) -> str:
        """Return the command that runs one test on a kernel again."""
        if self.image:
            chosen = ["run", "--image", str(self.image)]
        elif self.available and not self._is_declared(kernel):
            chosen = ["matrix", "--available", "--kernels", kernel]
        else:
            chosen = ["run", "--kernel", kernel]
        return command(shlex.join([*chosen, *self._tests(test)]))

    def debug(self, kernel: str, test: str, *more: str) -> str:
        """Return the command that runs a test under gdb; empty if it could not work."""
        if not self.image and not self._is_declared(kernel):
            return ""
        chosen = ["--image", str(self.image)] if self.image else ["--kernel", kernel]
        return command(shlex.join(["debug", *chosen, *self._tests(test), *more]))

    def bisect(self, bad: str, test: str, good: str = "") -> str:
        """Return the command that finds since when a test fails; empty if it could not work."""
        # It tries the releases that the sources of kernels.yaml have, with no profile.
        if self.image or names_profile(bad):
            return ""
        ends = ["--good", good, "--bad", bad] if good else []
        return command(shlex.join(["bisect", *self._tests(test), *ends]))

    def verify(self, kernels: Sequence[str], object: Path, loader: str = "") -> str:
        """Return the command that loads all programs of an object; empty if it could not work.

        The path of the object is absolute.
        """
        if self.image:
            return ""
        words = ["verify", "--kernels", ",".join(kernels)]
        if not all(map(self._is_declared, kernels)):
            words.insert(1, "--available")
        words += [os.path.relpath(object), *(["--loader", loader] if loader else [])]
        return command(shlex.join(words))

    def _is_declared(self, kernel: str) -> bool:
        return not self.available or kernel_of(kernel) in self.declared

    def _tests(self, test: str) -> list[str]:
        binaries = [word for path in self.binaries for word in ("--binary", str(path))]
        return ["--run", test, *binaries, *self.guest]


PLAIN = Again()
"""A run of declared tests on declared kernels, without options."""


@dataclass(frozen=True)
class NextCommands:
    """What to type next to look into a test that failed on a kernel."""

    again: Again
    kernel: str
    label: str
    """The name of the test, for people."""
    pattern: str
    """The text after `--run` that selects it."""
    good: str = ""
    """The nearest kernel on which it passed; empty if there is none."""

    @property
    def run(self) -> str:
        """Run it again, alone."""
        return self.again.run(self.kernel, self.pattern)

    @property
    def debug(self) -> str:
        """Run it under gdb; empty if that could not work, as for `bisect`."""
        return self.again.debug(self.kernel, self.pattern)

    @property
    def debug_rejection(self) -> str:
        """Run it under gdb, which stops where the verifier rejects a program."""
        return self.again.debug(self.kernel, self.pattern, "--break", "rejection")

    @property
    def bisect(self) -> str:
        """Find since when it fails."""
        return self.again.bisect(self.kernel, self.pattern, self.good)


def _guest_words(values: Values) -> tuple[str, ...]:
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
