"""What the task `kernels.archive` does: check and keep a mirror of Debian, or show which it is."""

from collections.abc import Sequence

from pydantic import ValidationError

from bpfmatrix.cli.console import say
from bpfmatrix.config import archives, user
from bpfmatrix.config.archives import Archives, NamedArchives
from bpfmatrix.config.project import Project
from bpfmatrix.config.user import UserConfig
from bpfmatrix.errors import BpfmatrixError, HostError, UsageError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.sources import apt_sources
from bpfmatrix.kernels.sources.apt_archive import Archive
from bpfmatrix.kernels.sources.apt_sources import AptEntry

__all__ = ["set_archive", "show_archives"]

# What every complete mirror of Debian has: by whether it is in the security archive.
_COMPLETE = {False: "stable", True: "stable-security"}


def show_archives(project: Project | None) -> None:
    """Print where the suites of a project, or Debian's in general, are fetched from, and why."""
    for suite in (_COMPLETE | _declared(project)).values():
        entry = apt_sources.find(suite)
        say(f"{'debian-security' if entry.is_security else 'debian':<16} {entry.uri}  {_by(entry)}")


def set_archive(
    urls: Sequence[str],
    security: str | None,
    stale: bool,
    project: Project | None,
    progress: Progress,
) -> None:
    """Check a mirror, with one small request for each of its archives, and write it to the file.

    UsageError if it is no URL; the errors of `Archive.check` if the mirror is not to be used.
    """
    if len(urls) != 1:
        raise UsageError(
            f"kernels.archive takes one URL, not {len(urls)}", "Name the mirror that is to be used."
        )
    data = {"debian": urls[0], "debian-security": security, "check_dates": not stale}
    try:
        chosen = Archives.model_validate(data)
    except ValidationError as error:
        wrong = security if error.errors()[0]["loc"] == ("debian-security",) else urls[0]
        raise UsageError(
            f"{wrong!r} is not the URL of an archive",
            "Expected: a URL such as http://mirror.example.org/debian.",
        ) from None
    # A mirror need not have more than what the project needs.
    for suite in (_declared(project) or _COMPLETE).values():
        entry = apt_sources.of_named(suite, NamedArchives(chosen, "the command line"))
        progress(f"asking {entry.uri}")
        try:
            Archive.at(Cache.default(), entry, suite).check()
        except BpfmatrixError as error:
            raise type(error)(f"{entry.uri} is not used: {error.what}", error.advice) from error
    file = user.path()
    settings = user.load(file).model_copy(update={"archives": chosen})
    try:
        user.write(file, UserConfig.model_validate(settings.model_dump(by_alias=True)))
    except OSError as error:
        raise HostError(
            f"{file} can't be written ({error.strerror})",
            "Let XDG_CONFIG_HOME name another folder.",
        ) from error
    say(f"{chosen.debian} is the mirror of Debian from now on ({file})")
    if (winner := archives.named()) and winner.by != str(file):
        say(f"but {winner.by} names {winner.archives.debian}, which wins")


def _declared(project: Project | None) -> dict[bool, str]:
    """Return a suite of each archive that a project declares, by whether it is for security."""
    kernels = reversed(project.config.kernels.values()) if project else ()
    sources = (entry.source.apt for entry in kernels)
    suites = (source.suite for source in sources if source and not source.mirror)
    return {AptEntry("", suite).is_security: suite for suite in suites}


def _by(entry: AptEntry) -> str:
    return f"({entry.by or f'of the apt of this host, {entry.place}'})"
