"""The environment variables of a command that a foreign test runner starts in a guest.

The command gets what it would get on the host: a runner tells its tests a lot that way. It does not
get variables that name sockets, terminals or sessions of the host, which the guest does not have,
or whose names are those of secrets: what a guest prints may end in a log.
"""

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from bpfmatrix.errors import UsageError
from bpfmatrix.virtiofs.shares import HostFiles, environment

__all__ = ["command_environment", "parse_variable"]

# A shell exports these; names with other characters are its functions.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OF_THE_HOST = (
    *("DBUS_*", "DISPLAY", "GNOME_*", "GPG_AGENT_INFO", "GPG_TTY", "ICEAUTHORITY", "INVOCATION_ID"),
    *("JOURNAL_STREAM", "LISTEN_*", "MAIL", "NOTIFY_SOCKET", "SESSION_MANAGER", "SSH_*", "STY"),
    *("TMUX", "TMUX_*", "VSCODE_IPC_*", "WATCHDOG_*", "WAYLAND_*", "WINDOWID", "XAUTHORITY"),
    *("XDG_RUNTIME_DIR", "XDG_SEAT*", "XDG_SESSION_*", "XDG_VTNR"),
    # In a guest, commands are root.
    *("LOGNAME", "USER", "SUDO_*"),
)
_SECRET = (
    *("*ACCESS_KEY*", "*API_KEY*", "*CREDENTIAL*", "*PASSPHRASE*", "*PASSWD*", "*PASSWORD*"),
    *("*PRIVATE_KEY*", "*SECRET*", "*TOKEN*"),
)
# make passes descriptors of its job server on, which the guest does not have.
_JOB_SERVER = re.compile(r"\s*--jobserver-(auth|fds)=\S*|\s+-j\d*(?=\s|$)")
_OF_MAKE = ("MAKEFLAGS", "MFLAGS", "CARGO_MAKEFLAGS")


def parse_variable(text: str) -> str:
    """Check a value of --env: NAME, or NAME=VALUE; ValueError says what was expected."""
    if not _NAME.fullmatch(text.partition("=")[0]):
        raise ValueError("expected NAME or NAME=VALUE")
    return text


def command_environment(
    ours: Mapping[str, str],
    files: HostFiles,
    chosen: Sequence[str],
    of_image: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return the variables of a command whose caller has the variables `ours`.

    `of_image` are those that the image declares which is the tests' root: its PATH and HOME
    replace those of the caller. `chosen` are values of --env, which come before all rules.
    UsageError if one of them names a variable that is not set.
    """
    kept = {name: _adapted(name, value) for name, value in ours.items() if _is_for_guests(name)}
    if not files.is_host:
        # Programs, libraries and the home of the host are not there.
        kept = {k: v for k, v in kept.items() if k not in ("HOME", "LD_LIBRARY_PATH", "SHELL")}
    if files.has_root:
        own = {**environment(files, ours), **of_image}
        kept = {**of_image, **kept, **{k: v for k, v in own.items() if k in ("PATH", "HOME")}}
        if "TMPDIR" in own:
            kept.setdefault("TMPDIR", own["TMPDIR"])
    else:
        kept.pop("PATH", None)
    for text in chosen:
        name, equals, value = text.partition("=")
        if not equals and name not in ours:
            raise UsageError(f"--env {name}: the variable is not set", f"Give --env {name}=VALUE.")
        kept[name] = value if equals else ours[name]
    return kept


def _is_for_guests(name: str) -> bool:
    known = (*_OF_THE_HOST, *_SECRET)
    return bool(_NAME.fullmatch(name)) and not any(
        fnmatch.fnmatchcase(name.upper(), pattern) for pattern in known
    )


def _adapted(name: str, value: str) -> str:
    if name in _OF_MAKE:
        value = _JOB_SERVER.sub("", value)
    return os.fsencode(value).decode(errors="replace")
