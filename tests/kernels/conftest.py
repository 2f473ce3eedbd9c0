import contextlib
import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfmatrix.config import archives
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import Source
from bpfmatrix.host import download
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.sources import apt_sources
from tests.kernels import synthetic
from tests.kernels.archive import Archive, make_key
from tests.kernels.rpms import Part, RpmRepository, make_rpm_key


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(autouse=True)
def _short_pauses_between_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_BACKOFF_SECONDS", 0.01)


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KERN_DIR", archives.VARIABLE, archives.SECURITY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    archives.declare(None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project's folder."""
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def apt_kernel(id: str = "6.1", suite: str = "bookworm-security", **apt: str) -> KernelConfig:
    source = Source.model_validate({"apt": {"suite": suite, **apt}})
    return KernelConfig.model_validate({"id": id, "source": source})


@pytest.fixture(scope="session")
def keyring() -> Iterator[Path]:
    # gpg-agent's socket must have a short path, which pytest's folders do not have.
    home = Path(tempfile.mkdtemp(prefix="gpg"))
    yield make_key(home)
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def rpm_key() -> Iterator[Path]:
    """An armored public key; the folder that it lies in is gpg's."""
    home = Path(tempfile.mkdtemp(prefix="gpg"))
    yield make_rpm_key(home)
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    shutil.rmtree(home)


@pytest.fixture
def repository(
    tmp_path: Path, rpm_key: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RpmRepository]:
    """A repository that holds one kernel, as RHEL 9 splits it, and no metadata yet."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = RpmRepository(tmp_path / "repository", rpm_key.parent)
    served.add(kernel_parts("6.1.190-9.el9"), "6.1.190-9.el9")
    yield served
    served.web.stop()


def kernel_parts(build: str, arch: str = "x86_64") -> dict[str, Part]:
    """The packages of a build that are looked at, and one that is not needed."""
    release = f"{build}.{arch}"
    image = synthetic.bzimage if arch == "x86_64" else synthetic.arm64_image
    folder = f"lib/modules/{release}"
    core, modules = (f"kernel{part}-uname-r = {release}" for part in ("", "-modules-core"))
    module = lzma.compress(synthetic.module())
    return {
        "kernel-core": Part(
            {
                f"{folder}/vmlinuz": image(release=release),
                f"{folder}/config": b"CONFIG_BPF=y\n",
                f"{folder}/System.map": b"0 a\n",
            },
            requires=(modules, "bash", "systemd"),
            provides=(core,),
        ),
        "kernel-modules-core": Part(
            {f"{folder}/modules.order": b"kernel/a.ko\n", f"{folder}/kernel/a.ko.xz": module},
            requires=(core,),
            provides=(modules,),
        ),
        "kernel-modules-extra": Part({f"{folder}/extra/b.ko.xz": module}, requires=(core,)),
    }


def use_host_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sources: str, settings: str = ""
) -> None:
    """Let apt believe that these are the host's settings and sources."""
    (folder / "sources.list").write_text(sources)
    config = folder / "host-apt.conf"
    config.write_text(
        'Dir::Etc::main "/dev/null";\nDir::Etc::parts "/dev/null";\n'
        'Dir::Etc::sourceparts "/dev/null";\n'
        f'Dir::Etc::sourcelist "{folder}/sources.list";\n'
        # What is unreachable is to be so at once.
        f'Acquire::Retries "0";\n{settings}'
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def archive(tmp_path: Path, keyring: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """An archive that holds one kernel of 6.1, which the host's apt uses."""
    with Archive(tmp_path / "archive", keyring.parent) as served:
        add_kernel(served, "6.1.0-9", "6.1.190-1")
        served.publish()
        line = f"deb [signed-by={keyring}] {served.uri} {served.suite} main\n"
        use_host_settings(tmp_path, monkeypatch, line)
        yield served


@pytest.fixture(params=["apt", "without apt"])
def each_way(
    request: pytest.FixtureRequest,
    archive: Archive,
    keyring: Path,
    path_without_apt: str,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The archive is fetched from by the host's apt, and again on a host that has no apt."""
    monkeypatch.setattr(apt_sources, "HOST_KEYRING", keyring)
    if request.param == "without apt":
        monkeypatch.setenv("PATH", path_without_apt)
        monkeypatch.setenv(archives.VARIABLE, archive.uri)
        monkeypatch.setenv(archives.SECURITY_VARIABLE, archive.uri)
    return str(request.param)


def add_kernel(archive: Archive, abi: str, version: str, flavour: str = "cloud-amd64") -> Path:
    release = f"{abi}-{flavour}"
    return archive.add(
        f"linux-image-{release}",
        version,
        {
            f"boot/vmlinuz-{release}": synthetic.bzimage(release=release),
            f"boot/config-{release}": b"CONFIG_BPF=y\n",
            f"lib/modules/{release}/modules.order": b"kernel/a.ko\n",
            f"lib/modules/{release}/kernel/a.ko.xz": lzma.compress(synthetic.module()),
        },
    )
