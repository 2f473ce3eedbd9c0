"""Logins for container registries, from the files of docker and podman.

`find` reads docker's config.json and the files of containers-auth.json(5), and asks credential
helpers. Secrets are never printed.
"""

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Login", "find"]

_HELPER_LIMIT_SECONDS = 30
# The only key under which docker keeps the login of Docker Hub.
_DOCKER_HUB_KEY = "index.docker.io"


@dataclass(frozen=True)
class Login:
    """A user and a secret for a registry; false if there is no secret."""

    user: str = ""
    secret: str = ""
    origin: str = ""
    """The file that the login is from."""
    problem: str = ""
    """Why a login could not be read, if a file names one."""

    def __repr__(self) -> str:  # pytest and tracebacks show it
        return f"Login({self.user!r}, origin={self.origin!r}, problem={self.problem!r})"

    def __bool__(self) -> bool:
        return bool(self.secret)


def find(host: str, repository: str) -> Login:
    """Return the login for a repository, from the first file that has one, or else an empty login.

    A key such as `ghcr.io/cilium` is for the repositories below it, and precedes `ghcr.io`.
    """
    problems = []
    for path in _files():
        try:
            data = json.loads(path.read_bytes())
            login = _in_file(data if isinstance(data, dict) else {}, host, repository, str(path))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, AttributeError) as error:
            login = Login(problem=f"{path} can't be read ({type(error).__name__})")
        if login:
            return login
        problems.append(login.problem)
    return Login(problem="; ".join(filter(None, problems)))


def _files() -> Iterator[Path]:
    environment, home = os.environ, Path.home()
    if own := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(own)
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers/auth.json"
    yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json"
    yield Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


def _in_file(data: Mapping[str, Any], host: str, repository: str, origin: str) -> Login:
    auths = {_plain(key): value for key, value in (data.get("auths") or {}).items()}
    helpers = {_plain(key): value for key, value in (data.get("credHelpers") or {}).items()}
    login = Login()
    for key in _keys(host, repository):
        if helper := helpers.get(key) or (data.get("credsStore") if key == host else None):
            login = _from_helper(str(helper), key, origin)
        if not login and (auths.get(key) or {}).get("auth"):
            user, _, secret = base64.b64decode(auths[key]["auth"]).decode().partition(":")
            login = Login(user, secret.rstrip("\0"), origin)
        if login:
            return login
    return login


def _keys(host: str, repository: str) -> Iterator[str]:
    """Give the keys that a repository's login may have, the most specific one first."""
    parts = repository.split("/")
    for count in range(len(parts), 0, -1):
        yield "/".join([host, *parts[:count]])
    yield host
    if host == "docker.io":
        yield _DOCKER_HUB_KEY


def _plain(key: str) -> str:
    """Return `index.docker.io` for docker's `https://index.docker.io/v1/`."""
    bare = key.partition("://")[2] or key
    return bare.removesuffix("/").removesuffix("/v1").removesuffix("/v2")


def _from_helper(name: str, key: str, origin: str) -> Login:
    """Ask a credential helper (github.com/docker/docker-credential-helpers) for a login."""
    program = f"docker-credential-{name}"
    server = f"https://{key}/v1/" if key in ("docker.io", _DOCKER_HUB_KEY) else key
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.replace("//docker.io", f"//{_DOCKER_HUB_KEY}"),
            capture_output=True,
            text=True,
            check=False,
            timeout=_HELPER_LIMIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Login(problem=f"{program} (named by {origin}) did not work: {_reason(error)}")
    if done.returncode:
        said = (done.stdout or done.stderr).strip()
        if "not found" in said:  # helpers say so if they have no login
            return Login()
        return Login(problem=f"{program} (named by {origin}) failed: {said[:200]}")
    try:
        data = json.loads(done.stdout)
        return Login(data["Username"], data["Secret"], f"{program}, named by {origin}")
    except (ValueError, KeyError, TypeError, binascii.Error):
        return Login(problem=f"{program} (named by {origin}) gave no login")


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it took too long"
