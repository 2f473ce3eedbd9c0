"""Fresh machines: a root folder of Debian for each, with a clone of this checkout and a user."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import tools
from bpfmatrix.host.process import tied
from bpfmatrix.kernels.sources import apt_sources
from tests.fresh import host
from tests.tool import REPOSITORY

__all__ = ["Finished", "Machine", "Workshop"]

_ENTER = Path(__file__).with_name("enter.sh")
_PATHS = {
    "root": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "sudo": "/usr/local/bin:/usr/bin:/bin",
}
_ACCOUNTS = {"root": "root", "sudo": "developer"}
_HOMES = {"root": "/root", "sudo": "/home/developer"}
_UID = 1000


@dataclass(frozen=True)
class Finished:
    """How a command ended. Its status is None if it ran into its limit."""

    status: int | None
    seconds: float


@dataclass(frozen=True)
class Machine:
    """A root folder and its user: `root`, or `sudo`, a user who may become root."""

    root: Path
    user: str
    environment: Mapping[str, str]

    @property
    def home(self) -> str:
        return _HOMES[self.user]

    @property
    def checkout(self) -> str:
        return f"{self.home}/bpfmatrix"

    def command(self, words: Sequence[str], user: str, folder: str) -> list[str]:
        """Return the command line that runs a command in this root, as a user, in a folder."""
        apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
        return [*apart, "sh", str(_ENTER), str(self.root), user, folder, *words]

    def variables(self) -> dict[str, str]:
        """Return the environment of commands: that of a login, and the host's registries."""
        account = _ACCOUNTS[self.user]
        login = {"HOME": self.home, "USER": account, "LOGNAME": account, "SHELL": "/bin/bash"}
        return {**self.environment, **login, "PATH": _PATHS[self.user]}

    def run(self, words: Sequence[str], log: Path, limit_seconds: float) -> Finished:
        """Run a command in the checkout. Its output goes to the log."""
        command = self.command(words, _ACCOUNTS[self.user], self.checkout)
        return _run(command, log, self.variables(), limit_seconds)

    def administer(self, *words: str, log: Path) -> None:
        """Run a command as root, to set the machine up."""
        env = {**self.environment, "HOME": "/root", "PATH": _PATHS["root"]}
        env["DEBIAN_FRONTEND"] = "noninteractive"
        done = _run(self.command(words, "root", "/"), log, env, 600)
        if done.status != 0:
            raise BpfmatrixError(f"{' '.join(words)} failed in {self.root}", f"Its output: {log}")

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine; `path` is relative to its root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@dataclass
class Workshop:
    """Makes machines in a temporary folder, from one pristine root of each release."""

    folder: Path
    logs: Path
    environment: Mapping[str, str] = field(default_factory=host.environment)

    def pristine(self, suite: str) -> Machine:
        """Return the root of a release, made by debootstrap, with the host's mirrors."""
        machine = Machine(self.folder / suite, "root", self.environment)
        if machine.root.exists():
            return machine
        log = self.logs / f"debootstrap-{suite}.log"
        half = machine.root.with_name(f"{suite}.half")
        command = [
            *(str(tools.require("debootstrap", "debootstrap")), "--variant=minbase"),
            *("--include=ca-certificates,git", suite, str(half), apt_sources.find(suite).uri),
        ]
        if _run(command, log, dict(os.environ), 1800).status != 0:
            raise BpfmatrixError(f"debootstrap could not make {suite}", f"Its output: {log}")
        _copy_host_settings(Machine(half, "root", self.environment), suite, log)
        half.rename(machine.root)
        return machine

    def machine(self, suite: str, user: str) -> Machine:
        """Return a new machine with a clone of this checkout's HEAD."""
        pristine = self.pristine(suite)
        made = Machine(self.folder / f"{suite}-{user}", user, self.environment)
        subprocess.run(["cp", "-a", "--reflink=auto", pristine.root, made.root], check=True)
        if user == "sudo":
            self._add_user(made, self.logs / f"{suite}-{user}-user.log")
        checkout = made.root / made.checkout.lstrip("/")
        clone = ["git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(checkout)]
        subprocess.run(clone, check=True)
        if user == "sudo":
            subprocess.run(["chown", "-R", f"{_UID}:{_UID}", checkout], check=True)
        return made

    def _add_user(self, machine: Machine, log: Path) -> None:
        account = _ACCOUNTS["sudo"]
        machine.administer("apt-get", "update", log=log)
        machine.administer(
            *("apt-get", "install", "-y", "--no-install-recommends", "sudo"), log=log
        )
        machine.administer(
            *("useradd", "--create-home", "--uid", str(_UID), "--shell", "/bin/bash", account),
            log=log,
        )
        machine.write(f"etc/sudoers.d/{account}", f"{account} ALL=(ALL) NOPASSWD: ALL\n")

    def remove(self, machine: Machine) -> None:
        """Remove a machine. Nothing is mounted in it once its commands have ended."""
        shutil.rmtree(machine.root)


def _copy_host_settings(machine: Machine, suite: str, log: Path) -> None:
    machine.write("etc/apt/sources.list", host.sources_list(suite))
    machine.write("etc/apt/apt.conf.d/99host", host.apt_settings())
    for path in ("/etc/resolv.conf", "/etc/hosts"):
        machine.write(path.lstrip("/"), Path(path).read_text())
    bundle = Path(os.environ.get("SSL_CERT_FILE", host.BUNDLE))
    if bundle.exists():
        ours = (machine.root / str(host.BUNDLE).lstrip("/")).read_text()
        for number, pem in enumerate(host.certificates(bundle.read_text(), ours)):
            machine.write(f"usr/local/share/ca-certificates/of-the-host-{number}.crt", pem)
        machine.administer("update-ca-certificates", log=log)


def _run(
    command: Sequence[str], log: Path, env: Mapping[str, str], limit_seconds: float
) -> Finished:
    """Run a command that ends with this process. Its output is appended to the log."""
    started = time.monotonic()
    with (
        log.open("ab") as output,
        subprocess.Popen(
            tied(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            # Ctrl-C must reach only this process, which then kills the command.
            start_new_session=True,
        ) as process,
    ):
        try:
            status: int | None = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    return Finished(status, time.monotonic() - started)
