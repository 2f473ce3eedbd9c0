"""Real apt and depmod, and hosts without apt, against a signed archive of tiny kernels."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.config import archives
from bpfmatrix.config.archives import Archives
from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.errors import BpfmatrixError, DamagedError, KernelUnavailableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.sources import apt_sources, debian_mirrors
from tests.damage import Notes
from tests.kernels import synthetic
from tests.kernels.archive import Archive, make_key
from tests.kernels.conftest import add_kernel, apt_kernel, use_host_settings
from tests.processes import Watched

pytestmark = pytest.mark.integration

PROVIDE = """
import sys
from pathlib import Path
from bpfmatrix import kernels
from bpfmatrix.host.cache import Cache
from bpfmatrix.config.models import KernelConfig
kernel = KernelConfig.model_validate_json(sys.argv[2])
image, was_cached = kernels.provide(kernel, Cache(Path(sys.argv[1])))
image.verify()
print(was_cached)
"""


def start_provide(cache: Cache, kernel: KernelConfig) -> subprocess.Popen[str]:
    text = kernel.model_dump_json(include={"id", "source"}, exclude_unset=True)
    return subprocess.Popen(
        [sys.executable, "-c", PROVIDE, str(cache.root), text], stdout=subprocess.PIPE, text=True
    )


def debs_fetched(archive: Archive) -> int:
    return sum(path.endswith(".deb") for path in archive.requests)


def leftovers(cache: Cache) -> list[Path]:
    return list((cache.root / "tmp").glob("*"))


@pytest.mark.usefixtures("each_way")
def test_a_kernel_is_fetched_once_and_then_needs_no_network(cache: Cache, archive: Archive) -> None:
    image, was_cached = kernels.provide(apt_kernel(), cache)
    assert not was_cached
    assert image.description == "6.1.190 (Debian 6.1.190-1, apt bookworm-security)"
    assert (image.release, image.arch, image.pvh) == ("6.1.0-9-cloud-amd64", "x86_64", True)
    assert image.boot.read_bytes() == synthetic.vmlinux(text=image.release.encode())
    assert image.modules is not None
    assert (image.modules / "kernel/a.ko").read_bytes() == synthetic.module()
    assert (image.modules / "modules.dep").read_text() == "kernel/a.ko:\n"
    assert leftovers(cache) == []
    archive.stop()
    assert kernels.provide(apt_kernel(), cache) == (image, True)
    assert kernels.cached(apt_kernel(), cache) == image


@pytest.mark.usefixtures("each_way")
def test_a_package_that_the_mirror_lacks_gives_way_to_an_older_one(
    cache: Cache, archive: Archive
) -> None:
    add_kernel(archive, "6.1.0-10", "6.1.200-1")
    archive.publish()
    [newest] = (archive.root / "pool").glob("linux-image-6.1.0-10-*.deb")
    newest.unlink()
    notes = Notes()
    image, _ = kernels.provide(apt_kernel(), cache, notes)
    assert image.description == "6.1.190 (Debian 6.1.190-1, apt bookworm-security)"
    [package] = image.provenance.packages
    assert package.name == "linux-image-6.1.0-9-cloud-amd64"
    assert notes.told == [
        "bookworm-security lists linux-image-6.1.0-10-cloud-amd64, and the mirror lacks it: "
        "taking linux-image-6.1.0-9-cloud-amd64"
    ]
    # One that is asked for by its name is not replaced.
    with pytest.raises(KernelUnavailableError, match="no longer has a package"):
        kernels.provide(apt_kernel(package="linux-image-6.1.0-10-cloud-amd64"), cache)


@pytest.mark.usefixtures("each_way")
def test_a_series_stays_until_it_is_updated(cache: Cache, archive: Archive) -> None:
    first, _ = kernels.provide(apt_kernel(), cache)
    add_kernel(archive, "6.1.0-10", "6.1.200-1")
    archive.publish()
    assert kernels.provide(apt_kernel(), cache) == (first, True)
    assert kernels.newest_available(apt_kernel(), cache) == "6.1.190-1"
    assert kernels.prune(cache) == []
    second = kernels.update(apt_kernel(), cache)
    assert second.version == "6.1.200"
    assert kernels.newest_available(apt_kernel(), cache) == "6.1.200-1"
    assert kernels.provide(apt_kernel(), cache) == (second, True)
    assert [item.name for item in kernels.prune(cache)] == [f"x86_64/{first.folder.name}"]
    assert not first.folder.exists()
    fetched = debs_fetched(archive)
    assert kernels.update(apt_kernel(), cache) == second
    assert debs_fetched(archive) == fetched
    assert len(kernels.prune(cache, everything=True)) == 1
    assert kernels.cached(apt_kernel(), cache) is None


def test_two_ids_share_one_image(cache: Cache, archive: Archive) -> None:
    image, _ = kernels.provide(apt_kernel(), cache)
    other = apt_kernel("other", package="linux-image-6.1.0-9-cloud-amd64")
    assert kernels.provide(other, cache)[0] == image
    assert debs_fetched(archive) == 1


@pytest.mark.usefixtures("each_way")
def test_search_lists_what_the_suites_offer(cache: Cache, archive: Archive) -> None:
    declared = {"6.1": {"source": {"apt": {"suite": archive.suite}}}, "x": {"source": {"oci": "y"}}}
    config = Config.model_validate({"kernels": declared})
    (offer,) = kernels.search(config, cache, "6.1")
    assert (offer.package, offer.version) == ("linux-image-6.1.0-9-cloud-amd64", "6.1.190-1")
    assert kernels.search(config, cache, "4.19") == []
    archive.stop()
    heard: list[str] = []
    offers = kernels.search(config, cache, "6.1", lambda text, fraction=None: heard.append(text))
    assert offers == [offer]
    assert heard[-1].startswith("bookworm-security can't be reached; using the index")


@pytest.mark.usefixtures("each_way")
def test_split_packages_are_followed(cache: Cache, archive: Archive) -> None:
    release, version = "7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"
    parts = [f"linux-{part}-{release} (= {version})" for part in ("binary", "modules", "base")]
    archive.add("linux-image-cloud-amd64", "7.3+1", depends=f"linux-image-{release}")
    archive.add(f"linux-image-{release}", version, depends=", ".join(parts))
    folder = f"usr/lib/modules/{release}"
    vmlinuz = {f"{folder}/vmlinuz": synthetic.bzimage(release=release)}
    archive.add(f"linux-binary-{release}", version, vmlinuz)
    archive.add(f"linux-modules-{release}", version, {f"{folder}/a.ko": synthetic.module()})
    builtin = {f"{folder}/modules.builtin": b"kernel/b.ko\n", f"{folder}/config": b"CONFIG_X=y\n"}
    archive.add(f"linux-base-{release}", version, builtin)
    archive.publish()
    image, _ = kernels.provide(apt_kernel("new", package="linux-image-cloud-amd64"), cache)
    assert (image.version, image.release) == ("7.3.4", release)
    assert len(image.provenance.packages) == 5
    assert set(image.read_modules(["a.ko", "modules.builtin"])) == {"a.ko", "modules.builtin"}
    assert image.config is not None
    assert image.config.read_text() == "CONFIG_X=y\n"


@pytest.mark.usefixtures("each_way")
def test_a_damaged_image_is_fetched_again_as_the_same_release(
    cache: Cache, archive: Archive
) -> None:
    image, _ = kernels.provide(apt_kernel(), cache)
    add_kernel(archive, "6.1.0-10", "6.1.200-1")
    archive.publish()
    for name, size_bytes in (
        ("vmlinux", 100),
        ("vmlinux", 0),
        ("kernel.json", 100),
        ("modules.json", 5),
    ):
        os.truncate(image.folder / name, size_bytes)
        heard: list[str] = []
        again, was_cached = kernels.provide(
            apt_kernel(), cache, lambda text, fraction=None, heard=heard: heard.append(text)
        )
        assert not was_cached
        assert heard[0].startswith("6.1: the cached kernel is damaged (")
        assert again.release == image.release
        again.verify()
        assert kernels.provide(apt_kernel(), cache) == (again, True)


def test_a_damaged_module_is_found_when_it_is_read(cache: Cache, archive: Archive) -> None:
    image, _ = kernels.provide(apt_kernel(), cache)
    assert image.modules is not None
    (image.modules / "kernel/a.ko").write_bytes(b"x")
    with pytest.raises(DamagedError, match=r"a\.ko does not have the checksum"):
        image.read_modules(["kernel/a.ko"])
    repaired = kernels.repair(apt_kernel(), cache)
    assert repaired.read_modules(["kernel/a.ko"]) == {"kernel/a.ko": synthetic.module()}
    archive.stop()
    assert kernels.repair(apt_kernel(), cache) == repaired


def test_what_no_network_means(cache: Cache, archive: Archive, each_way: str) -> None:
    image, _ = kernels.provide(apt_kernel(), cache)
    archive.stop()
    with pytest.raises(KernelUnavailableError) as raised:
        kernels.provide(apt_kernel("6.2"), cache)
    assert raised.value.what == (
        "6.2: bookworm-security can't be reached and no kernel of this series is cached."
    )
    said = "apt said: Failed" if each_way == "apt" else f"{archive.uri}dists/bookworm-security/"
    assert raised.value.advice.startswith(
        f"Try again with a network, or put an image into ci-kernels/6.2/vmlinuz. {said}"
    )
    with pytest.raises(KernelUnavailableError, match=r"the cached 6\.1\.190 stays in use"):
        kernels.update(apt_kernel(), cache)
    os.truncate(image.boot, 7)
    with pytest.raises(KernelUnavailableError, match=r"reached and the cached kernel is damaged"):
        kernels.provide(apt_kernel(), cache)


@pytest.mark.usefixtures("each_way")
def test_what_the_archive_does_not_have(cache: Cache, archive: Archive) -> None:
    with pytest.raises(KernelUnavailableError, match=r"6\.1: the archive .* no suite bookw-sec"):
        kernels.provide(apt_kernel(suite="bookw-security"), cache)
    with pytest.raises(KernelUnavailableError) as raised:
        kernels.provide(apt_kernel("6.2"), cache)
    assert raised.value.what == (
        "6.2: bookworm-security has no package linux-image-6.2.*-cloud-amd64"
    )
    assert raised.value.advice == "It has linux-image-6.1.0-9-cloud-amd64."


def test_a_package_that_is_no_kernel(cache: Cache, archive: Archive) -> None:
    archive.add("linux-image-empty", "1")
    archive.add("linux-image-text", "1", {"boot/vmlinuz-1": b"text"})
    archive.publish()
    with pytest.raises(KernelUnavailableError, match=r"6\.1: linux-image-empty.*no kernel in it"):
        kernels.provide(apt_kernel(package="linux-image-empty"), cache)
    with pytest.raises(
        BpfmatrixError, match=r"6\.1: the kernel of linux-image-text is not a kernel"
    ):
        kernels.provide(apt_kernel(package="linux-image-text"), cache)
    assert kernels.cached(apt_kernel(), cache) is None


def unsigned(archive: Archive) -> None:
    archive.publish(sign=False)


def index_changed_after_signing(archive: Archive) -> None:
    index = archive.root / "dists" / archive.suite / "main/binary-amd64/Packages"
    index.write_bytes(index.read_bytes().replace(b"6.1.190", b"6.1.191"))


def release_changed_after_signing(archive: Archive) -> None:
    release = archive.root / "dists" / archive.suite / "InRelease"
    release.write_bytes(release.read_bytes().replace(b"Label: Debian", b"Label: Nobody"))


def package_changed_after_signing(archive: Archive) -> None:
    (deb,) = (archive.root / "pool").glob("*.deb")
    deb.write_bytes(deb.read_bytes()[:-1] + b"x")


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize(
    ("tamper", "sentence"),
    [
        (unsigned, "the archive's signature is missing or is by no key"),
        (release_changed_after_signing, "the archive's signature is missing or is by no key"),
        (index_changed_after_signing, "does not have the checksum of the signed index"),
        (package_changed_after_signing, "does not have the checksum of the signed index"),
    ],
)
def test_nothing_unsigned_is_taken(
    cache: Cache, archive: Archive, tamper: Callable[[Archive], None], sentence: str
) -> None:
    tamper(archive)
    with pytest.raises(KernelUnavailableError, match=sentence):
        kernels.provide(apt_kernel(), cache)
    assert kernels.cached(apt_kernel(), cache) is None
    assert leftovers(cache) == []


def test_another_key_is_not_taken(
    cache: Cache, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyring: Path
) -> None:
    other = make_key(keyring.parent / "other")
    line = f"deb [signed-by={other}] {archive.uri} {archive.suite} main\n"
    use_host_settings(tmp_path, monkeypatch, line)
    with pytest.raises(KernelUnavailableError, match="is by no key that this host trusts"):
        kernels.provide(apt_kernel(), cache)


def test_the_hosts_hooks_never_run(
    cache: Cache, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    hooks = (
        f'APT::Update::Post-Invoke {{ "touch {ran}"; }};\n'
        f'APT::Update::Pre-Invoke {{ "touch {ran}"; }};\nDPkg::Post-Invoke {{ "touch {ran}"; }};\n'
    )
    sources = (tmp_path / "sources.list").read_text()
    use_host_settings(tmp_path, monkeypatch, sources, hooks)
    kernels.provide(apt_kernel(), cache)
    assert not ran.exists()


def test_the_hosts_proxy_is_used(
    cache: Cache, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        proxy = f'Acquire::http::Proxy "http://127.0.0.1:{closed.getsockname()[1]}";\n'
        monkeypatch.delenv("no_proxy")
        sources = (tmp_path / "sources.list").read_text()
        use_host_settings(tmp_path, monkeypatch, sources, proxy)
        monkeypatch.delenv("no_proxy")
        with pytest.raises(KernelUnavailableError, match="can't be reached"):
            kernels.provide(apt_kernel(), cache)
    assert archive.requests == []


def test_two_processes_fetch_once(cache: Cache, archive: Archive) -> None:
    both = [start_provide(cache, apt_kernel()) for _ in range(2)]
    said = sorted(process.communicate(timeout=60)[0].strip() for process in both)
    assert said == ["False", "True"]
    assert debs_fetched(archive) == 1


def test_killed_half_way(cache: Cache, archive: Archive) -> None:
    archive.debs_may_go.clear()
    process = start_provide(cache, apt_kernel())
    assert archive.deb_was_asked_for.wait(30)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert leftovers(cache)
    assert kernels.cached(apt_kernel(), cache) is None
    archive.debs_may_go.set()
    image, was_cached = kernels.provide(apt_kernel(), cache)
    assert not was_cached
    image.verify()
    assert leftovers(cache) == []


def test_apt_does_not_outlive_a_killed_parent(cache: Cache, archive: Archive) -> None:
    archive.debs_may_go.clear()
    process = start_provide(cache, apt_kernel())
    assert archive.deb_was_asked_for.wait(30)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    watched = [Watched(int(child)) for child in children]
    assert watched
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert all(child.ends_within(10) for child in watched)


def test_a_host_that_knows_no_archive(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(debian_mirrors, "find", lambda: None)
    use_host_settings(tmp_path, monkeypatch, "# nothing\n")
    for _ in ("with apt", "without"):
        with pytest.raises(KernelUnavailableError, match="is known on this host") as raised:
            kernels.provide(apt_kernel(), cache)
        assert raised.value.what.startswith(
            "6.1: bookworm-security: no mirror of Debian's security"
        )
        assert "`invoke kernels.archive http" in raised.value.advice
        assert kernels.newest_available(apt_kernel(), cache) is None
        monkeypatch.setenv("PATH", str(tmp_path))


def test_the_hosts_apt_is_left_alone(
    cache: Cache, archive: Archive, keyring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a host with Ubuntu's sources, which nothing asks, Debian's archive is used beside them."""
    with Archive(tmp_path / "ubuntu", keyring.parent, "noble", "Ubuntu") as ubuntu:
        lines = [f"deb {ubuntu.uri} {suite} main\n" for suite in ("noble", "noble-security")]
        use_host_settings(tmp_path, monkeypatch, "".join(lines))
        monkeypatch.setattr(apt_sources, "HOST_KEYRING", keyring)
        declared = {"debian": archive.uri, "debian-security": archive.uri}
        archives.declare(Archives.model_validate(declared))
        image, _ = kernels.provide(apt_kernel(), cache)
        assert image.description == "6.1.190 (Debian 6.1.190-1, apt bookworm-security)"
        assert ubuntu.requests == []


@pytest.mark.usefixtures("each_way")
def test_a_mirror_without_the_files_by_hash_that_its_release_announces(
    cache: Cache, archive: Archive
) -> None:
    archive.publish(fields="Acquire-By-Hash: yes\n")
    kernels.provide(apt_kernel(), cache)
    assert any("/by-hash/SHA256/" in path for path in archive.requests)


def test_a_suite_of_debian_under_the_name_of_another_is_refused(
    cache: Cache, archive: Archive, each_way: str
) -> None:
    """Debian's keys sign each suite, so a mirror could send an old one. apt only warns of that."""
    dists = archive.root / "dists"
    (dists / "bullseye-security").symlink_to(archive.suite)
    with pytest.raises(KernelUnavailableError) as raised:
        kernels.check(apt_kernel(suite="bullseye-security"), cache)
    assert "has another suite under the name of bullseye-security" in raised.value.what
    if each_way == "without apt":
        with pytest.raises(KernelUnavailableError, match="has another suite under the name of"):
            kernels.provide(apt_kernel(suite="bullseye-security"), cache)


@pytest.mark.usefixtures("each_way")
def test_an_older_state_than_the_last_is_not_taken(cache: Cache, archive: Archive) -> None:
    release = archive.root / "dists" / archive.suite / "InRelease"
    archive.publish(age_seconds=60)
    old = release.read_bytes()
    add_kernel(archive, "6.1.0-10", "6.1.200-1")
    archive.publish()
    kernels.provide(apt_kernel(), cache)
    release.write_bytes(old)
    assert kernels.update(apt_kernel(), cache).version == "6.1.200"


@pytest.mark.usefixtures("each_way")
def test_a_mirror_that_keeps_an_old_state(
    cache: Cache, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.publish(valid_seconds=-60)
    with pytest.raises(KernelUnavailableError, match="the archive's index is out of date"):
        kernels.provide(apt_kernel(), cache)
    declared = {"debian": archive.uri, "debian-security": archive.uri, "check_dates": False}
    for name in (archives.VARIABLE, archives.SECURITY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    archives.declare(Archives.model_validate(declared))
    image, _ = kernels.provide(apt_kernel(), cache)
    assert image.version == "6.1.190"
