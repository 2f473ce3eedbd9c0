"""The configuration of a kernel: fragments, the options that they ask for, and the resulting ones.

A fragment has lines such as `CONFIG_BPF=y` and `# CONFIG_BPF is not set`, like a kernel's
`.config`. `read` reads fragments, of which a later one overrides an earlier one. `compare` tells
which of the options are not in the resulting configuration.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import KernelBuildError, UsageError
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.installation import CHECKOUT, PACKAGE
from bpfmatrix.kernels.build.kconfig import Kconfig

__all__ = [
    "ConfigOption",
    "Difference",
    "Requested",
    "compare",
    "find",
    "parse_result",
    "read",
    "refuse",
]

_SET = re.compile(r"CONFIG_(\w+)=(y|m|n|-?\d+|0[xX][0-9a-fA-F]+|\".*\")")
_NOT_SET = re.compile(r"# CONFIG_(\w+) is not set")


@dataclass(frozen=True)
class ConfigOption:
    """An option that a fragment asks for."""

    name: str
    """Without `CONFIG_`."""
    value: str
    """`y`, `m`, `n`, a number or a quoted text."""
    where: str
    """File and line: `ebpf.config:12`."""

    def __str__(self) -> str:
        """Write it as a `.config` has it."""
        if self.value == "n":
            return f"# CONFIG_{self.name} is not set"
        return f"CONFIG_{self.name}={self.value}"


@dataclass(frozen=True)
class Requested:
    """The options that some fragments ask for together."""

    options: Mapping[str, ConfigOption]
    fragments: tuple[tuple[str, str], ...]
    """The name and the SHA-256 of each fragment."""

    @property
    def text(self) -> str:
        """The options as make takes them by `KCONFIG_ALLCONFIG`."""
        return "".join(f"{option}\n" for option in self.options.values())


@dataclass(frozen=True)
class Difference:
    """An option that the version has, whose resulting value is not the one that was asked for."""

    option: ConfigOption
    found: str
    reason: str
    """What the option needs, as far as that could be found."""


def find(root: Path, arch: str, debug: bool, further: Iterable[Path]) -> list[Path]:
    """Return the fragments of a build, in order.

    A file in the project's own `ci-kernels` replaces bpfmatrix's file of the same name. UsageError
    names a file that is missing.
    """
    names = ["base", "ebpf", f"arch-{arch}", *(["debug"] if debug else [])]
    found = []
    for name in names:
        own = root / "ci-kernels" / f"{name}.config"
        found.append(own if own.exists() else _shipped() / f"{name}.config")
    found += [root / path for path in further]
    for path in found:
        if not path.is_file():
            raise UsageError(
                f"there is no fragment {path}",
                "A fragment is a file with lines such as CONFIG_BPF=y; see ci-kernels/*.config.",
            )
    return found


def _shipped() -> Path:
    # A wheel has them as package data; an editable install uses those of the checkout.
    packaged = PACKAGE / "ci-kernels"
    return packaged if packaged.exists() else CHECKOUT / "ci-kernels"


def read(fragments: Sequence[Path]) -> Requested:
    """Read fragments; for an option that several fragments name, the last one counts."""
    options: dict[str, ConfigOption] = {}
    digests = []
    for path in fragments:
        try:
            data = path.read_bytes()
            text = data.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the fragment {path} can't be read: {error}") from error
        digests.append((path.name, sha256(data)))
        for option in parse(text, path.name):
            options.pop(option.name, None)
            options[option.name] = option
    return Requested(options, tuple(digests))


def parse(text: str, name: str) -> list[ConfigOption]:
    """Read a fragment; UsageError for a line that is neither an option nor a comment."""
    options = []
    for number, line in enumerate(text.splitlines(), start=1):
        line, where = line.strip(), f"{name}:{number}"  # noqa: PLW2901
        if match := _SET.fullmatch(line):
            options.append(ConfigOption(match[1], match[2], where))
        elif match := _NOT_SET.fullmatch(line):
            options.append(ConfigOption(match[1], "n", where))
        elif line and not line.startswith("#"):
            raise UsageError(
                f"{where}: {line[:60]!r} is not an option",
                'Expected: CONFIG_NAME=y (or m, n, a number, a "text"), or '
                "# CONFIG_NAME is not set.",
            )
    return options


def parse_result(text: str) -> dict[str, str]:
    """Return the options that are set in a `.config`, by their names without `CONFIG_`."""
    return {
        name: value
        for line in text.splitlines()
        if line.startswith("CONFIG_")
        for name, _, value in [line.removeprefix("CONFIG_").partition("=")]
    }


def compare(
    requested: Requested, result: Mapping[str, str], kconfig: Kconfig
) -> tuple[list[Difference], list[str]]:
    """Return the options with other values than asked for, and those that the version lacks.

    An option that exists on other architectures only counts as one that the version does not have.
    If an option that it has is spelt almost the same, its name is added as a suggestion.
    """
    differences, unknown = [], []
    for option in requested.options.values():
        found = result.get(option.name, "n")
        # A module is built in if something that is built in needs it, which is fine.
        if found == option.value or (option.value, found) == ("m", "y"):
            continue
        if option.name not in kconfig.symbols:
            unknown.append(option.name + _suggestion(option.name, kconfig))
        elif option.value != "n" and not kconfig.is_possible(option.name, result):
            unknown.append(f"{option.name} (not on this architecture)")
        else:
            reason = kconfig.why_not(option.name, option.value, result)
            differences.append(Difference(option, found, reason))
    return differences, unknown


def refuse(differences: Sequence[Difference], version: str) -> None:
    """Raise a KernelBuildError if there are differences."""
    if not differences:
        return
    lines = [
        f"{each.option.where}: {each.option} came out as {each.found}: {each.reason}"
        for each in differences
    ]
    count = f"{len(lines)} options" if len(lines) > 1 else "an option"
    raise KernelBuildError(
        f"{count} that {version} knows did not stick:\n" + "\n".join(lines),
        "Ask for what they need in a fragment of your own (--config), or take them out.",
    )


def _suggestion(name: str, kconfig: Kconfig) -> str:
    # Only options that can be asked for, and only very similar names: FPROBE is no misspelt KPROBE.
    known = [known for known, defined in kconfig.symbols.items() if any(d.prompt for d in defined)]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.95)
    return f" (did you mean {close[0]}?)" if close else ""
