"""Kernels that kernels.lock pins, on several machines: each has a cache of its own.

The kernels are tiny. The archive, apt and the registry are real, and on loopback.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bpfmatrix import kernels
from bpfmatrix.cli.kernels_output import print_kernels, update_kernels
from bpfmatrix.config import kernels_lock
from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.config.sources import Source
from bpfmatrix.errors import ConfigError, KernelUnavailableError, UnreachableError, UsageError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.host.progress import silent
from bpfmatrix.kernels import KernelImage, Package, pinned
from bpfmatrix.kernels.build import result
from bpfmatrix.kernels.oci.by_digest import tag_of
from bpfmatrix.kernels.oci.publish import publish
from bpfmatrix.kernels.sources import directory
from bpfmatrix.oci.reference import Reference
from tests.damage import Notes
from tests.kernels import synthetic
from tests.kernels.archive import Archive
from tests.kernels.conftest import add_kernel, apt_kernel
from tests.oci.registry import Registry, layer
from tests.tool import ToolProject

pytestmark = pytest.mark.integration

REPOSITORY = "team/kernels"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_logins_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", pinned.REGISTRY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Cache:
    """The cache of another machine."""
    return Cache(tmp_path / "elsewhere")


def kernel_in(root: Path, registry: Registry | None = None) -> KernelConfig:
    """The kernel 6.1 of the archive, in the project `root`."""
    name = f"{registry.host}/{REPOSITORY}" if registry else None
    return apt_kernel().model_copy(update={"root": root, "registry": name})


def pin_now(kernel: KernelConfig, cache: Cache) -> KernelImage:
    image = kernels.update(kernel, cache)
    pinned.pin(kernel, image, cache)
    return image


def push(
    registry: Registry, image: KernelImage, tag: str = "", changed: Mapping[str, bytes] = {}
) -> None:
    """Put a kernel into the registry; `changed` has other contents of files, by their names."""
    files = [image.vmlinuz, image.folder / "config"]
    entries = [(f"boot/{path.name}", path) for path in files]
    if image.modules:
        paths = sorted(path for path in image.modules.rglob("*") if path.is_file())
        entries += [(str(path.relative_to(image.folder)), path) for path in paths]
    packed = layer((name, changed.get(path.name, path.read_bytes())) for name, path in entries)
    registry.image(REPOSITORY, tag or tag_of(image.digest, image.files_digest()), [packed])


def release_6_1_200(archive: Archive, *, drop: bool) -> None:
    """Let the archive have a newer release; `drop` removes the older one, as Debian's suites do."""
    if drop:
        for deb in (archive.root / "pool").glob("*6.1.190*"):
            deb.unlink()
    add_kernel(archive, "6.1.0-10", "6.1.200-1")
    archive.publish()


def no_kernel_in(cache: Cache) -> bool:
    found = [*cache.root.glob("kernels/*/*"), *cache.root.glob("refs/*/*")]
    return not [*found, *cache.root.glob("tmp/*")]


def test_each_machine_runs_what_is_pinned(
    cache: Cache, elsewhere: Cache, archive: Archive, root: Path
) -> None:
    kernel = kernel_in(root)
    first = pin_now(kernel, cache)
    release_6_1_200(archive, drop=False)
    other, was_cached = kernels.provide(kernel, elsewhere)
    assert not was_cached
    assert (other.digest, other.provenance) == (first.digest, first.provenance)
    assert other.folder.name == first.folder.name
    # A kernel that is cached and not pinned is not taken.
    second = pin_now(kernel, elsewhere)
    assert second.version == "6.1.200"
    assert kernels.cached(kernel, cache) is None
    assert kernels.provide(kernel, cache)[0].digest == second.digest
    # With another checkout's pin, the first one is taken from the cache again.
    archive.stop()
    kernels_lock.write(root, {"6.1": replace(_pin_of(first), source=_pin_of(second, root).source)})
    assert kernels.provide(kernel, cache) == (first, True)
    assert kernels.provide(kernel, cache) == (first, True)
    (root / kernels_lock.FILE_NAME).unlink()
    assert kernels.provide(kernel, elsewhere)[0].digest == second.digest


def _pin_of(image: KernelImage, root: Path | None = None) -> kernels_lock.Pin:
    """Return the pin to an image; its source is that of the kernel in `root`."""
    return kernels_lock.Pin(
        arch=image.arch,
        source=kernels_lock.read(root)["6.1"].source if root else {},
        version=image.version,
        release=image.release,
        digest=image.digest,
        files=image.files_digest(),
        origin=image.provenance.source,
        vendor=image.provenance.vendor,
        packages=image.provenance.packages,
    )


def test_a_dropped_package_is_an_error_that_says_what_there_is_now(
    cache: Cache, elsewhere: Cache, archive: Archive, root: Path
) -> None:
    kernel = kernel_in(root)
    pin_now(kernel, cache)
    release_6_1_200(archive, drop=True)
    with pytest.raises(KernelUnavailableError, match=r"no longer has linux-image-6\.1\.0-9-cloud"):
        kernels.check(kernel, elsewhere)
    kernels.check(kernel, cache)  # where it is cached, nobody is asked
    with pytest.raises(KernelUnavailableError) as raised:
        kernels.provide(kernel, elsewhere)
    assert raised.value.what == (
        "6.1: kernels.lock pins 6.1.190, which is not cached and can't be had: bookworm-security "
        "no longer has linux-image-6.1.0-9-cloud-amd64 6.1.190-1; it has "
        "linux-image-6.1.0-10-cloud-amd64 6.1.200-1 now"
    )
    assert raised.value.advice == (
        "`invoke kernels.update --kernel 6.1` pins what its source has now; or let `registry` of "
        "kernels.yaml name a registry that has it."
    )
    assert no_kernel_in(elsewhere)
    # Where it is cached, it goes on to be used.
    assert kernels.provide(kernel, cache)[1]


def test_a_dropped_package_is_no_failure_while_the_registry_has_it(
    cache: Cache, elsewhere: Cache, archive: Archive, registry: Registry, root: Path
) -> None:
    kernel = kernel_in(root, registry)
    first = pin_now(kernel, cache)
    push(registry, first)
    release_6_1_200(archive, drop=True)
    shutil.rmtree(archive.root / "dists")  # the suite has vanished altogether
    notes = Notes()
    image, was_cached = kernels.provide(kernel, elsewhere, notes)
    assert not was_cached
    assert notes.told == []
    image.verify()
    assert image.provenance.registry == f"{registry.host}/{REPOSITORY}"
    # Results and templates do not tell by which way it came.
    assert image.provenance == first.provenance
    assert image.description == first.description
    assert (image.label, image.release) == (first.label, first.release)
    assert KernelImage.load(image.folder).provenance.registry == image.provenance.registry
    registry.stop()
    assert kernels.provide(kernel, elsewhere, notes) == (image, True)
    assert notes.told == []
    # A damaged one is fetched from there again.
    registry.start()
    image.boot.write_bytes(b"junk")
    again, _ = kernels.provide(kernel, elsewhere, notes)
    again.verify()
    assert [note.partition(" (")[0] for note in notes.told] == ["6.1: the cached kernel is damaged"]


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (
            {"vmlinuz": synthetic.bzimage(release="6.1.99-evil")},
            "has another kernel behind the tag of 6.1.190",
        ),
        ({"a.ko": b"other code"}, "the configuration and the modules of the kernel of linux-"),
        ({"config": b"CONFIG_BPF=n\n"}, "the configuration and the modules of the kernel of"),
        ({"modules.order": b"kernel/b.ko\n"}, "the configuration and the modules of the kernel"),
    ],
)
def test_a_registry_that_lies_is_not_believed(
    cache: Cache,
    elsewhere: Cache,
    archive: Archive,
    registry: Registry,
    root: Path,
    lie: dict[str, bytes],
    said: str,
) -> None:
    kernel = kernel_in(root, registry)
    first = pin_now(kernel, cache)
    push(registry, first, changed=lie)
    notes = Notes()
    image, _ = kernels.provide(kernel, elsewhere, notes)
    assert (image.digest, image.provenance.registry) == (first.digest, "")
    assert image.files_digest() == first.files_digest()
    [note] = notes.told
    assert said in note
    assert note.endswith("; asking apt bookworm-security")
    # Nowhere is it: nothing is kept, and the error has what each place said.
    release_6_1_200(archive, drop=True)
    third = Cache(elsewhere.root.with_name("third"))
    with pytest.raises(KernelUnavailableError) as raised:
        kernels.provide(kernel, third)
    assert said in raised.value.what
    assert "bookworm-security no longer has linux-image-6.1.0-9-cloud-amd64" in raised.value.what
    assert f"`invoke kernels.push 6.1 --to {kernel.registry}`" in raised.value.advice
    assert no_kernel_in(third)


def test_what_depmod_wrote_elsewhere_is_not_taken(
    cache: Cache, elsewhere: Cache, archive: Archive, registry: Registry, root: Path
) -> None:
    kernel = kernel_in(root, registry)
    first = pin_now(kernel, cache)
    assert first.modules is not None
    (first.modules / "modules.weakdep").write_text("weakdep a evil\n")  # older depmods write none
    push(registry, first, changed={"modules.dep": b"kernel/a.ko: kernel/evil.ko\n"})
    archive.stop()
    image, _ = kernels.provide(kernel, elsewhere)
    assert image.modules is not None
    assert (image.modules / "modules.dep").read_text() == "kernel/a.ko:\n"
    assert not [path for path in image.modules.glob("modules.*") if b"evil" in path.read_bytes()]


def test_a_registry_that_can_not_be_asked(
    cache: Cache, elsewhere: Cache, archive: Archive, root: Path, tmp_path: Path
) -> None:
    with Registry(tmp_path / "registry", login=True) as registry:
        kernel = kernel_in(root, registry)
        first = pin_now(kernel, cache)
        notes = Notes()
        kernels.provide(kernel, elsewhere, notes)
        [note] = notes.told
        assert note == (
            f"6.1: {registry.host} requires a login for {REPOSITORY}, or does not have it; asking "
            "apt bookworm-security"
        )
        kernels.prune(elsewhere, everything=True)
        registry.stop()
        image, _ = kernels.provide(kernel, elsewhere, notes)
        assert image.digest == first.digest
        assert notes.told[1] == (
            f"6.1: {registry.host} can't be reached; asking apt bookworm-security"
        )
        archive.stop()
        kernels.prune(elsewhere, everything=True)
        with pytest.raises(UnreachableError) as raised:
            kernels.provide(kernel, elsewhere)
        assert raised.value.what == (
            "6.1: kernels.lock pins 6.1.190, which is not cached and can't be had: "
            f"{registry.host} can't be reached (Connection refused); bookworm-security can't be "
            "reached"
        )


def test_a_registry_that_lacks_it(
    cache: Cache, elsewhere: Cache, archive: Archive, registry: Registry, root: Path
) -> None:
    kernel = kernel_in(root, registry)
    first = pin_now(kernel, cache)
    push(registry, first, tag="6.1.190")  # a version is not asked for: only the digest counts
    notes = Notes()
    kernels.provide(kernel, elsewhere, notes)
    tag = tag_of(first.digest, first.files_digest())
    assert notes.told == [
        f"6.1: {registry.host}/{REPOSITORY} does not have 6.1.190 ({tag[:19]}...); asking apt "
        "bookworm-security"
    ]


def test_the_environment_names_the_registry(
    cache: Cache,
    elsewhere: Cache,
    archive: Archive,
    registry: Registry,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = kernel_in(root)
    push(registry, pin_now(kernel, cache))
    archive.stop()
    monkeypatch.setenv(pinned.REGISTRY_VARIABLE, f"{registry.host}/{REPOSITORY}:6.1")
    with pytest.raises(UsageError, match="expected a repository, such as"):
        kernels.provide(kernel, elsewhere)
    monkeypatch.setenv(pinned.REGISTRY_VARIABLE, f"{registry.host}/{REPOSITORY}")
    image, _ = kernels.provide(kernel, elsewhere)
    assert image.provenance.registry == f"{registry.host}/{REPOSITORY}"


def test_an_edited_digest_is_refused(
    cache: Cache, elsewhere: Cache, archive: Archive, root: Path
) -> None:
    kernel = kernel_in(root)
    pin_now(kernel, cache)
    pin, other = kernels_lock.read(root)["6.1"], f"sha256:{'0' * 64}"
    for edited in (replace(pin, digest=other), replace(pin, files=other)):
        kernels_lock.write(root, {"6.1": edited})
        assert kernels.cached(kernel, cache) is None
        with pytest.raises(KernelUnavailableError) as raised:
            kernels.provide(kernel, elsewhere)
        assert f"and not {other} of kernels.lock" in raised.value.what
        assert "or kernels.lock was edited" in raised.value.advice
        assert no_kernel_in(elsewhere)
        # Nor is the kernel of the same package that is cached.
        with pytest.raises(KernelUnavailableError, match=other):
            kernels.provide(kernel, cache)


def test_an_edited_lock_changes_nothing_for_other_projects(
    cache: Cache, elsewhere: Cache, archive: Archive, registry: Registry, tmp_path: Path
) -> None:
    true, strange, unpinned = (tmp_path / name for name in ("true", "strange", "unpinned"))
    for folder in (true, strange, unpinned, tmp_path / "k"):
        folder.mkdir()
    first = pin_now(kernel_in(true), elsewhere)
    (tmp_path / "k/vmlinuz").write_bytes(synthetic.bzimage(release="6.1.7-evil"))
    (tmp_path / "k/config").write_text("CONFIG_BPF=y\n")
    made = kernel_in(tmp_path).model_copy(update={"source": Source(directory=Path("k"))})
    evil, _ = kernels.provide(made, elsewhere)
    push(registry, evil)
    pin = kernels_lock.read(true)["6.1"]
    lie = replace(
        _pin_of(evil),
        source=pin.source,
        origin=pin.origin,
        vendor=pin.vendor,
        packages=pin.packages,
    )
    kernels_lock.write(strange, {"6.1": lie})
    assert kernels.provide(kernel_in(strange, registry), cache)[0].digest == evil.digest
    # The packages of its provenance are those that the others want.
    assert kernels.provide(kernel_in(true), cache)[0].digest == first.digest
    assert kernels.provide(kernel_in(unpinned), cache)[0].digest == first.digest
    # Nor is an image replaced of which only the configuration is another one.
    other_config = files_digest_with_config(first, b"CONFIG_BPF=n\n")
    tag = tag_of(first.digest, other_config)
    push(registry, first, tag, changed={"config": b"CONFIG_BPF=n\n"})
    kernels_lock.write(strange, {"6.1": replace(pin, files=other_config)})
    image, _ = kernels.provide(kernel_in(strange, registry), cache)
    assert image.files_digest() == other_config
    for root in (true, unpinned):
        assert kernels.provide(kernel_in(root), cache)[0].files_digest() == first.files_digest()


def files_digest_with_config(image: KernelImage, config: bytes) -> str:
    """Return the digest that the files of an image would have with another configuration."""
    assert image.config is not None
    before = image.config.read_bytes()
    try:
        image.config.write_bytes(config)
        return image.files_digest()
    finally:
        image.config.write_bytes(before)


@pytest.mark.parametrize(
    ("lie", "in_registry"),
    [
        ({"version": "9.9.9"}, True),
        ({"origin": "apt my own suite"}, True),
        ({"vendor": "Somebody"}, True),
        ({"version": "9.9.9"}, False),
        ({"release": "6.1.0-99-cloud-amd64"}, False),
    ],
)
def test_what_an_edited_lock_says_of_a_kernel_is_not_said_elsewhere(
    cache: Cache,
    elsewhere: Cache,
    archive: Archive,
    registry: Registry,
    tmp_path: Path,
    lie: dict[str, Any],
    in_registry: bool,
) -> None:
    true, strange = (tmp_path / name for name in ("true", "strange"))
    for folder in (true, strange):
        folder.mkdir()
    first = pin_now(kernel_in(true), elsewhere)
    if in_registry:
        push(registry, first)
    kernels_lock.write(strange, {"6.1": replace(kernels_lock.read(true)["6.1"], **lie)})
    if in_registry:
        # A package has a version of its own, of which vmlinuz says nothing.
        kernels.provide(kernel_in(strange, registry), cache)
    else:
        with pytest.raises(KernelUnavailableError, match=r"and not .* of kernels\.lock"):
            kernels.provide(kernel_in(strange, registry), cache)
        assert no_kernel_in(cache)
    image, _ = kernels.provide(kernel_in(true, registry), cache)
    assert (image.version, image.release) == (first.version, first.release)
    assert image.provenance == first.provenance


def test_a_pin_of_another_source_is_an_error(cache: Cache, archive: Archive, root: Path) -> None:
    kernel = kernel_in(root)
    pin_now(kernel, cache)
    moved = kernel.model_copy(
        update={"source": apt_kernel(package="linux-image-6.1.0-9-cloud-amd64").source}
    )
    with pytest.raises(UsageError) as raised:
        kernels.provide(moved, cache)
    assert raised.value.what == (
        "kernels.lock: kernels.6.1 was pinned with another source than kernels.yaml has now"
    )
    assert raised.value.advice == ("`invoke kernels.update --kernel 6.1` pins what it has now.")
    pin_now(moved, cache)
    assert kernels.provide(moved, cache)[1]


def test_a_sweep_takes_the_newest(cache: Cache, archive: Archive, root: Path) -> None:
    entry = {"source": {"apt": {"suite": archive.suite}}}
    config = Config.model_validate({"kernels": {"6.1": entry}}).at(root)
    pinned_to = pin_now(config.kernel("6.1"), cache)
    release_6_1_200(archive, drop=False)
    newest = config.unpinned().kernel("6.1")
    assert kernels.update(newest, cache).version == "6.1.200"
    # What was updated is what runs then, also in a configuration with further kernels.
    with_others = config.unpinned().model_copy(update={"kernels": {**config.kernels}})
    assert kernels.provide(with_others.kernel("6.1"), cache)[0].version == "6.1.200"
    assert kernels.provide(config.kernel("6.1"), cache) == (pinned_to, True)


def test_two_checkouts_may_pin_different_kernels(
    cache: Cache, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        root.mkdir()
    first = pin_now(kernel_in(roots[0]), cache)
    release_6_1_200(archive, drop=True)
    second = pin_now(kernel_in(roots[1]), cache)
    archive.stop()
    assert kernels.prune(cache) == []
    assert kernels.provide(kernel_in(roots[0]), cache) == (first, True)
    assert kernels.provide(kernel_in(roots[1]), cache) == (second, True)
    assert second.digest != first.digest
    # That of a checkout into which the user may not look stays.
    with monkeypatch.context() as patch:
        patch.setattr(kernels_lock, "exists", _forbidden)
        assert kernels.prune(cache) == []
    # The kernel of a checkout that was removed goes.
    shutil.rmtree(roots[0])
    assert [item.name for item in kernels.prune(cache)] == [f"x86_64/{first.folder.name}"]


def test_updates_at_the_same_time_lose_no_pin(cache: Cache, archive: Archive, root: Path) -> None:
    image = kernels.update(kernel_in(root), cache)
    ids = [f"6.1-{number}" for number in range(20)]

    def pin(id: str) -> None:
        pinned.pin(kernel_in(root).model_copy(update={"id": id}), image, cache)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(pin, ids))
    assert sorted(kernels_lock.read(root)) == sorted(ids)
    assert [path.name for path in root.iterdir()] == [kernels_lock.FILE_NAME]


def test_a_kernel_that_a_user_placed(
    cache: Cache, archive: Archive, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = kernel_in(root)
    first = pin_now(kernel, cache)
    for folder in ("ci-kernels", "mine"):
        (root / folder / "6.1").mkdir(parents=True)
        (root / folder / "6.1/vmlinuz").write_bytes(synthetic.bzimage(release="6.1.99-mine"))
    kernels.prune(cache, everything=True)
    assert kernels.provide(kernel, cache)[0].digest == first.digest
    # KERN_DIR is for this run alone, so that nothing is pinned to its kernel.
    monkeypatch.setenv("KERN_DIR", str(root / "mine"))
    assert kernels.provide(kernel, cache)[0].release == "6.1.99-mine"
    assert pinned.reason_against(kernel) == "KERN_DIR has it"


def test_a_kernel_of_a_folder_is_pinned_where_a_registry_has_it(
    cache: Cache,
    elsewhere: Cache,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roots = [tmp_path / name for name in ("here", "there")]
    for root in roots:
        root.mkdir()
    here, there = (
        KernelConfig.model_validate(
            {
                "id": "6.1",
                "root": root,
                "source": Source(directory=Path("k")),
                "registry": f"{registry.host}/{REPOSITORY}",
            }
        )
        for root in roots
    )
    unnamed = here.model_copy(update={"registry": None})
    assert pinned.reason_against(unnamed) == (
        "it is only on this machine, and no `registry` is named"
    )
    assert pinned.reason_against(here) == ""
    file = roots[0] / "k/vmlinuz"
    file.parent.mkdir()
    file.write_bytes(synthetic.bzimage(release="6.1.7-own"))
    (file.parent / "config").write_text("CONFIG_BPF=y\n")
    image = pin_now(here, cache)
    push(registry, image)
    shutil.copy(roots[0] / kernels_lock.FILE_NAME, roots[1])
    notes = Notes()
    other, _ = kernels.provide(there, elsewhere, notes)
    assert (other.digest, other.provenance) == (image.digest, image.provenance)
    # To know that the file is still the same one, it is not read: not at all where it was copied,
    # and once where the registry's image is used.
    (roots[1] / "k").mkdir()
    for name in ("vmlinuz", "config"):
        shutil.copy(file.with_name(name), roots[1] / "k")
    assert kernels.provide(there, elsewhere, notes) == (other, True)
    with monkeypatch.context() as patch:
        patch.setattr(directory, "sha256_of", _not_read)
        assert kernels.provide(here, cache, notes) == (image, True)
        assert kernels.provide(there, elsewhere, notes) == (other, True)
    # Nor is it to be read at all to run the pinned one.
    os.utime(roots[1] / "k/vmlinuz", (1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(directory, "sha256_of", _forbidden)
        assert kernels.provide(there, elsewhere, notes) == (other, True)
    assert notes.told == []
    # Another kernel is built into the folder.
    file.write_bytes(synthetic.bzimage(release="6.1.8-own"))
    assert kernels.provide(here, cache, notes) == (image, True)
    [note] = notes.told
    assert note.startswith("6.1: k/vmlinuz is another one now, and 6.1.7 runs, as pinned by")
    assert pin_now(here, cache).release == "6.1.8-own"
    assert kernels.provide(here, cache, notes)[0].release == "6.1.8-own"
    assert len(notes.told) == 1


def _not_read(path: Path) -> str:
    raise AssertionError(f"{path} was read")


def _forbidden(path: Path) -> str:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def test_a_build_is_pinned_and_never_repeated_elsewhere(
    cache: Cache, elsewhere: Cache, registry: Registry, tmp_path: Path
) -> None:
    here, there = (
        KernelConfig.model_validate(
            {
                "id": "6.1",
                "root": tmp_path / name,
                "source": {"build": {"version": "6.1.7", "from": str(tmp_path / "tree")}},
                "registry": f"{registry.host}/{REPOSITORY}",
            }
        )
        for name in ("here", "there")
    )
    there.root.mkdir()
    built(here, synthetic.bzimage(release="6.1.7-own"))
    image, _ = kernels.provide(here, cache)
    pinned.pin(here, image, cache)
    shutil.copy(here.root / kernels_lock.FILE_NAME, there.root)
    with pytest.raises(KernelUnavailableError, match="it was built elsewhere"):
        kernels.check(there, elsewhere)
    with pytest.raises(KernelUnavailableError) as raised:
        kernels.provide(there, elsewhere)
    assert raised.value.what.endswith(
        "; it was built elsewhere, and a build here would not be the same to the bit"
    )
    push(registry, image)
    notes = Notes()
    kernels.check(there, elsewhere)
    other, _ = kernels.provide(there, elsewhere, notes)
    assert (other.digest, other.provenance) == (image.digest, image.provenance)
    assert other.provenance.registry == there.registry
    # The one that is built next runs when it is pinned.
    built(here, synthetic.bzimage(release="6.1.7-other"))
    assert kernels.provide(here, cache, notes) == (image, True)
    [note] = notes.told
    assert note.startswith(
        "6.1: ci-kernels/ has another build, or its fragments changed, and 6.1.7"
    )
    registry.stop()
    kernels.prune(cache, everything=True)
    built(here, synthetic.bzimage(release="6.1.7-own"))
    assert kernels.provide(here, cache)[0].digest == image.digest


def built(kernel: KernelConfig, vmlinuz: bytes) -> None:
    """Leave a kernel in ci-kernels/ as a build of the fragments does."""
    source = kernel.source.build
    assert source is not None
    folder = result.folder_of(source, kernel.arch, kernel.root)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vmlinuz").write_bytes(vmlinuz)
    (folder / "config").write_text("CONFIG_BPF=y\n")
    asked = result.requested_options(source, kernel.arch, kernel.root)
    about = {
        **{"format": result.FORMAT, "version": "6.1.7", "release": "6.1.7-own", "seconds": 1.0},
        **{"source": "a tree", "packages": [asdict(Package("tree", "6.1.7", ""))], "unknown": []},
        "key": result.key_of(source, kernel.arch, asked),
        "sha256": {"vmlinuz": sha256_of(folder / "vmlinuz")},
    }
    (folder / result.DESCRIPTION).write_text(json.dumps(about))


def test_an_image_of_a_registry_is_pinned_by_its_manifest(
    cache: Cache, elsewhere: Cache, registry: Registry, root: Path
) -> None:
    name = f"{registry.host}/k"
    kernel = KernelConfig.model_validate(
        {"id": "6.1", "root": root, "source": Source(oci=f"{name}:6.1")}
    )
    made = registry.image("k", "6.1", [layer([("boot/vmlinuz", synthetic.bzimage())])])
    first = pin_now(kernel, cache)
    assert f"sha256:{kernels_lock.read(root)['6.1'].packages[0].sha256}" == made.digest
    newer = layer([("boot/vmlinuz", synthetic.bzimage(release="6.1.200"))])
    moved = registry.image("k", "6.1", [newer])
    image, _ = kernels.provide(kernel, elsewhere)
    assert (image.digest, image.provenance) == (first.digest, first.provenance)
    registry.stored(made.digest).unlink()
    kernels.prune(elsewhere, everything=True)
    with pytest.raises(KernelUnavailableError) as raised:
        kernels.provide(kernel, elsewhere)
    assert f"{name} no longer has {name} 6.1; it has {name}:6.1@{moved.digest[:19]} now" in (
        raised.value.what
    )


def test_the_tasks_update_push_and_fetch(
    archive: Archive, registry: Registry, root: Path, tmp_path: Path
) -> None:
    name = f"{registry.host}/{REPOSITORY}"
    entry = {"source": {"apt": {"suite": archive.suite}}}
    declared = {"registry": f"oci://{name}", "kernels": {"6.1": entry}}
    (root / "kernels.yaml").write_text(yaml.safe_dump(declared))
    (root / "tasks.py").write_text("from bpfmatrix.tasks import namespace as namespace\n")

    def said(*words: str, cache: str = "a") -> str:
        done = ToolProject(root).invoke(*words, env={"BPFMATRIX_CACHE": str(tmp_path / cache)})
        assert done.status == 0, done.output
        return done.output

    description = "6.1        6.1.190 (Debian 6.1.190-1, apt bookworm-security)"
    assert f"{description}  new" in said("kernels.update")
    said("kernels.push", "--to", f"oci://{name}")
    archive.stop()
    fetched = said("kernels.fetch", cache="b").splitlines()
    assert f"{description}  fetched from {name}" in fetched
    # What came from the registry is pushed to another one without a difference.
    cache = Cache(tmp_path / "b")
    kernel = kernel_in(root, registry)
    target = Reference.parse(f"{registry.host}/team/other")
    publish(kernel, kernels.provide(kernel, cache)[0], None, target, cache)
    folder = registry.root / "storage/docker/registry/v2/repositories/team"
    revisions = [
        {path.name for path in (folder / name / "_manifests/revisions/sha256").iterdir()}
        for name in ("kernels", "other")
    ]
    assert revisions[0] == revisions[1]


def test_update_says_what_changed(
    cache: Cache, archive: Archive, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"apt": {"suite": archive.suite}}
    config = Config.model_validate({"kernels": {"6.1": {"source": source}}}).at(root)
    project = Project(root, config, cache)

    def said() -> list[str]:
        return capsys.readouterr().out.splitlines()

    update_kernels(project, ["6.1"], silent, every=True)
    changed = "kernels.lock has changed; commit it, so that every machine runs these"
    assert said() == [
        "6.1        6.1.190 (Debian 6.1.190-1, apt bookworm-security)  new",
        changed,
    ]
    update_kernels(project, ["6.1"], silent, every=True)
    assert said() == [
        "6.1        6.1.190 (Debian 6.1.190-1, apt bookworm-security)  still the newest"
    ]
    release_6_1_200(archive, drop=True)
    kernels.refresh(config, cache)
    print_kernels(project, as_json=False)
    [row] = [line for line in said() if line.startswith("6.1")]
    assert row.split()[4:7] == ["6.1.200-1", "6.1.190-1", "6.1.190"]  # newest, pinned, cached
    pins = kernels_lock.read(root)
    kernels_lock.write(root, {**pins, "5.10": pins["6.1"]})
    update_kernels(project, ["6.1"], silent, every=False)
    assert said() == [
        "6.1        6.1.190 → 6.1.200 (Debian 6.1.200-1, apt bookworm-security)  new",
        changed,
    ]
    update_kernels(project, ["6.1"], silent, every=True)
    assert said()[1:] == ["5.10       no longer in kernels.yaml, nor in kernels.lock", changed]
    assert list(kernels_lock.read(root)) == ["6.1"]
    # A kernel that can't be had does not keep the others from being updated, or listed.
    gone = {"directory": "nothing"}
    entries = {"6.3": {"source": gone}, "6.1": {"source": source}}
    config = Config.model_validate({"kernels": entries}).at(root)
    project = Project(root, config, cache)
    pins = kernels_lock.read(root)
    kernels_lock.write(root, {"6.3": pins["6.1"]})
    print_kernels(project, as_json=True)
    rows = {row["kernel"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["6.3"]["pinned"] == "for another source or architecture"
    assert rows["6.1"]["version"] == "6.1.200"
    assert update_kernels(project, ["6.3", "6.1"], silent, every=True) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: 6.3: there is no ")
    assert printed.out.splitlines() == [
        "6.1        6.1.200 (Debian 6.1.200-1, apt bookworm-security)  still the newest",
        changed,
    ]
    assert list(kernels_lock.read(root)) == ["6.1", "6.3"]
    (root / kernels_lock.FILE_NAME).write_text("{")
    with pytest.raises(ConfigError):
        update_kernels(project, ["6.1"], silent, every=False)
    assert (root / kernels_lock.FILE_NAME).read_text() == "{"
