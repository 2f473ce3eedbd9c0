"""The settings by which this host reaches package archives, for fresh machines.

Mirrors, proxies, certificates and registries are read from the settings of apt, pip, Go and from
the environment. None is written down here.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bpfmatrix.kernels.sources import apt_sources
from bpfmatrix.kernels.sources.apt_get import host_acquire_options

__all__ = ["BUNDLE", "apt_settings", "certificates", "environment", "sources_list"]

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
"""The file in which Debian's ca-certificates keeps all certificates."""

_PROXIES = re.compile(r"(https?|ftp|all|no)_proxy", re.IGNORECASE)
_BUNDLES = re.compile(r"SSL_CERT_FILE|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|GIT_SSL_CAINFO|PIP_CERT")
# Options of pip that name registries. Those that name folders of this host are left out.
_PIP = re.compile(
    r"(index-url|extra-index-url|find-links|trusted-host|cert|proxy|timeout|default-timeout|retries)"
)
_GO = ("GOPROXY", "GOSUMDB", "GONOPROXY", "GONOSUMDB", "GOPRIVATE", "GOINSECURE")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?\n-----END CERTIFICATE-----\n", re.DOTALL)


def environment(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables by which pip, Go and others reach their registries."""
    found = {name: value for name, value in given.items() if _PROXIES.fullmatch(name)}
    found |= _of_go() | dict(_of_pip(_pip_config()))
    bundles = {*filter(_BUNDLES.fullmatch, given), *filter(_BUNDLES.fullmatch, found)}
    return found | dict.fromkeys(bundles, str(BUNDLE))


def _of_go() -> dict[str, str]:
    if shutil.which("go") is None:
        return {name: os.environ[name] for name in _GO if name in os.environ}
    done = subprocess.run(["go", "env", *_GO], capture_output=True, text=True, check=True)
    return {name: value for name, value in zip(_GO, done.stdout.splitlines(), strict=True) if value}


def _pip_config() -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _of_pip(listed: str) -> Iterator[tuple[str, str]]:
    """Yield variables for the lines of `pip config list`: `global.index-url='https://...'`.

    If two lines set the same option, the later one has precedence.
    """
    for line in listed.splitlines():
        place, _, value = line.partition("=")
        name = place.rpartition(".")[2]
        if not _PIP.fullmatch(name):
            continue
        text = str(ast.literal_eval(value))
        # Folders of this host do not exist on a fresh machine.
        words = [word for word in text.split() if name == "cert" or not word.startswith("/")]
        if words:
            yield f"PIP_{name.upper().replace('-', '_')}", " ".join(words)


def certificates(of_host: str, of_root: str) -> list[str]:
    """Return the certificates of the host's bundle that the root's bundle lacks, each as PEM."""
    known = set(_PEM.findall(of_root))
    return [pem for pem in _PEM.findall(of_host) if pem not in known]


def apt_settings(given: Mapping[str, str] = os.environ) -> str:
    """Return the settings by which this host's apt reaches its mirrors, as an apt.conf."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    lines = list(host_acquire_options(dump.stdout))
    # apt also reads proxies from the environment, but sudo does not pass these variables on.
    for scheme in ("http", "https"):
        if proxy := given.get(f"{scheme}_proxy"):
            lines.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return "".join(f"{line}\n" for line in lines)


def sources_list(suite: str) -> str:
    """Return a sources.list of a Debian release, with the mirrors of this host's apt."""
    pockets = (suite, f"{suite}-updates", f"{suite}-security")
    return "".join(f"deb {apt_sources.find(pocket).uri} {pocket} main\n" for pocket in pockets)
