"""The kernels of a first kernels.yaml: long-term ones and the newest, as far as sources have them.

`questions` are asked of the sources, and `choose` makes the list of what was answered.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bpfmatrix.config.models import Config
from bpfmatrix.errors import BpfmatrixError, UnreachableError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache

__all__ = ["Answers", "KernelChoice", "KernelList", "choose"]

# The suites of Debian with a long-term kernel. Debian 11 to 13 have one each.
_SUITES = {"5.10": "bullseye-security", "6.1": "bookworm-security", "6.12": "trixie-security"}
# Its newest kernels.
_NEWEST_SUITE = "trixie-backports"
# Long-term kernels that no suite of Debian has. These images are what cilium/ebpf is tested on.
_IMAGES = {
    "5.15": "ghcr.io/cilium/ci-kernels:5.15",
    "6.6": "ghcr.io/cilium/ci-kernels:6.6",
}
_ARCHITECTURES_OF_IMAGES = ("x86_64", "aarch64")
_NEWEST = "newest"


@dataclass(frozen=True)
class KernelChoice:
    """A kernel of the list."""

    id: str
    source: str
    """The value of `source` in kernels.yaml, in YAML."""
    why_not: str = ""
    """Why the kernel can't be had now, as a sentence without a full stop; empty if it can."""
    unchecked: str = ""
    """Why it is not known whether its source has it, such a sentence; empty if it is known."""


@dataclass(frozen=True)
class KernelList:
    """The kernels, oldest first."""

    kernels: tuple[KernelChoice, ...]

    @property
    def ids(self) -> list[str]:
        """The ids of the kernels that are declared."""
        return [one.id for one in self.kernels if not one.why_not]


@dataclass
class Answers:
    """What the sources of an architecture answer; each question is asked by a thread of its own."""

    arch: str
    cache: Cache
    series: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The series that each suite has, oldest first."""

    def questions(self) -> Mapping[str, Callable[[], None]]:
        """Return a function for each suite and image; it raises BpfmatrixError for a refusal."""
        suites = [*_SUITES.values(), _NEWEST_SUITE]
        found: dict[str, Callable[[], None]] = {
            suite: lambda suite=suite: self._ask_suite(suite)  # type: ignore[misc]
            for suite in suites
        }
        if self.arch in _ARCHITECTURES_OF_IMAGES:
            for id, image in _IMAGES.items():
                found[image] = lambda id=id, image=image: self._ask_registry(id, image)  # type: ignore[misc]
        return found

    def _ask_suite(self, suite: str) -> None:
        from bpfmatrix.kernels.series import available  # noqa: PLC0415 - slow to import

        config = self._config("0.0", {"apt": {"suite": suite}})
        found = available(config, self.cache)
        self.series[suite] = tuple(id for id in found.ids if id in found.config.kernels)

    def _ask_registry(self, id: str, image: str) -> None:
        from bpfmatrix import kernels  # noqa: PLC0415 - slow to import

        kernels.check(self._config(id, {"oci": image}).kernel(id), self.cache)

    def _config(self, id: str, source: object) -> Config:
        data = {"defaults": {"arch": self.arch}, "kernels": {id: {"source": source}}}
        return Config.model_validate(data)


def choose(answers: Answers, errors: Mapping[str, BpfmatrixError | None]) -> KernelList:
    """Make the list; `errors` has the error of each question, or None for one without.

    A suite that did not answer is taken at its word as it is known, with `unchecked` in its entry.
    """
    found = []
    for id, suite in _SUITES.items():
        source = f"{{apt: {{suite: {suite}}}}}"
        error = errors.get(suite)
        if isinstance(error, UnreachableError):
            found.append(KernelChoice(id, source, unchecked=error.what))
        elif error is not None:
            found.append(KernelChoice(id, source, error.what))
        elif id in answers.series.get(suite, ()):
            found.append(KernelChoice(id, source))
        else:
            debian = ARCHITECTURES[answers.arch].debian
            found.append(KernelChoice(id, source, f"{suite} has no such kernel for {debian}"))
    for id, image in _IMAGES.items():
        if answers.arch in _ARCHITECTURES_OF_IMAGES:
            error = errors.get(image)
            found.append(KernelChoice(id, f'{{oci: "{image}"}}', error.what if error else ""))
    found.sort(key=lambda one: [int(part) for part in one.id.split(".")])
    return KernelList((*found, *_newest(answers, errors.get(_NEWEST_SUITE), found)))


def _newest(
    answers: Answers, error: BpfmatrixError | None, others: list[KernelChoice]
) -> list[KernelChoice]:
    """Return the entry of the newest kernel, if there is one."""
    if error is None:
        series = answers.series.get(_NEWEST_SUITE, ())
        if not series or series[-1] in {one.id for one in others}:
            return []
        return [KernelChoice(series[-1], f"{{apt: {{suite: {_NEWEST_SUITE}}}}}")]
    package = f"linux-image-{ARCHITECTURES[answers.arch].debian_kernel}"
    source = f"{{apt: {{suite: {_NEWEST_SUITE}, package: {package}}}}}"
    if isinstance(error, UnreachableError):
        return [KernelChoice(_NEWEST, source, unchecked=error.what)]
    return [KernelChoice(_NEWEST, source, error.what)]
