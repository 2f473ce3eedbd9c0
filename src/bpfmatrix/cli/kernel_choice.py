"""Which kernels a command is for: one (--kernel, --image) or several (--kernels, --available)."""

import dataclasses
import fnmatch
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bpfmatrix.cli import options
from bpfmatrix.cli.values import Values
from bpfmatrix.config.kernel_ids import kernel_of, names_profile, profile_of, with_profile
from bpfmatrix.errors import UsageError, suggestion

if TYPE_CHECKING:
    from bpfmatrix.config.models import Config
    from bpfmatrix.config.project import Project

__all__ = [
    "kernel_ids",
    "no_kernel",
    "one_kernel",
    "several_kernels",
    "with_available",
    "with_profiles",
]


def one_kernel(values: Values) -> tuple["Project", str]:
    """Return the project of the working directory, and the id of the kernel that is named.

    The kernel of --image is added to the project's own.
    """
    from bpfmatrix.config.project import Project

    kernel, image = values[options.KERNEL], values[options.IMAGE]
    if kernel and image:
        raise UsageError("name the kernel, either by --kernel or by --image")
    project = Project.load()
    if kernel:
        return project, project.config.kernel(kernel).id
    if image is None:
        raise no_kernel(project)
    from bpfmatrix.kernels.image_option import with_image

    return with_image(project, image)


def no_kernel(project: "Project") -> UsageError:
    """Return the error of a command that is about one kernel, and got no id."""
    known = list(project.config.kernels)
    advice = f"Name it, as in --kernel {known[0]}. kernels.yaml has: {', '.join(known)}."
    return UsageError("no kernel is named", advice)


def several_kernels(
    project: "Project", values: Values, default: Sequence[str]
) -> tuple["Project", list[str]]:
    """Return the ids of the kernels that --kernels or --kernel name, or else the default ones.

    With --available, the project has more kernels than kernels.yaml declares.
    """
    kernel, patterns = values[options.KERNEL], values[options.KERNELS]
    if kernel and patterns is not None:
        raise UsageError("name the kernels, either by --kernel or by --kernels")
    if values[options.AVAILABLE]:
        project, default = with_available(project, patterns)
    if kernel:
        chosen = [project.config.kernel(kernel).id]
    else:
        if patterns is None and values[options.PROFILE]:  # in place of those of the matrix
            default = list(dict.fromkeys(map(kernel_of, default)))
        chosen = kernel_ids(project.config, patterns, default)
    return project, with_profiles(project.config, chosen, values)


def with_profiles(config: "Config", ids: Sequence[str], values: Values) -> list[str]:
    """Return the ids of the kernels with each profile of --profile, or as they are without one.

    UsageError for an unknown profile, or an id that names a profile itself.
    """
    names = values[options.PROFILE]
    for name in names:
        config.require_profile(name)
        for id in ids:
            if names_profile(id):
                raise UsageError(
                    f"--profile {name}: {id} names a profile already", "Name profiles in one way."
                )
    return [with_profile(id, name) for id in ids for name in dict.fromkeys(names)] or list(ids)


def _matching(config: "Config", pattern: str) -> list[str]:
    """Return the ids that match a pattern: with profiles, if the pattern names one."""
    found = fnmatch.filter(config.kernels, kernel_of(pattern))
    if not names_profile(pattern):
        return found
    profiles = fnmatch.filter(config.profiles, profile_of(pattern))
    return [with_profile(id, name) for id in found for name in profiles]


def kernel_ids(config: "Config", patterns: str | None, default: Sequence[str]) -> list[str]:
    """Return the ids that a list such as `5.10,6.*` names, each once; `default` if it is None.

    UsageError for a pattern that matches no kernel.
    """
    if patterns is None:
        return list(default)
    found: dict[str, None] = {}
    for pattern in patterns.split(","):
        matching = _matching(config, pattern.strip())
        if not matching:
            known = [*config.kernels, *_matching(config, "*@*")]
            hint = suggestion(pattern, known)
            raise UsageError(
                f"--kernels {pattern}: no such kernel in kernels.yaml{hint}",
                f"It has: {', '.join(config.kernels)}.",
            )
        found.update(dict.fromkeys(matching))
    return list(found)


def with_available(project: "Project", patterns: str | None) -> tuple["Project", list[str]]:
    """Return the project with an entry for each series that its apt suites offer, and their ids.

    A pattern with two dots, such as `6.1.*`, names single releases, which are added too. Series of
    another architecture than the default one are added if a pattern contains a hyphen, as in
    `*-arm64`. The ids are those to run if there are no patterns. Prints which series are left out,
    and why.
    """
    from bpfmatrix.cli.console import say
    from bpfmatrix.kernels.series import available

    found = available(project.config, project.cache)
    parts = [kernel_of(part.strip()) for part in patterns.split(",")] if patterns else []
    # Without this, `7.*` would match each series twice as soon as one entry is for arm64.
    other_architectures = any("-" in re.sub(r"\[.*?\]", "", part) for part in parts)
    for gone in found.left_out:
        named = patterns is None or any(fnmatch.fnmatch(gone.id, part) for part in parts)
        if named and (other_architectures or gone.arch == project.config.defaults.arch):
            say(gone.why, stderr=True)
    single = [part for part in parts if part.count(".") > 1]
    releases = {
        id: entry
        for id, entry in found.releases.items()
        if any(fnmatch.fnmatch(id, part) for part in single)
    }
    series = {
        id: entry
        for id, entry in found.config.kernels.items()
        if other_architectures or id in project.config.kernels or id in found.ids
    }
    config = found.config.model_copy(update={"kernels": {**releases, **series}})
    return dataclasses.replace(project, config=config), list(found.ids)
