import contextlib
import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfmatrix.cache import Cache
from bpfmatrix.config import KernelConfig, Source

from . import synthetic
from .archive import Archive, make_key


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


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


def add_kernel(archive: Archive, abi: str, version: str) -> Path:
    release = f"{abi}-cloud-amd64"
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
