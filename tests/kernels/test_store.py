import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfmatrix import kernels
from bpfmatrix.errors import BpfmatrixError, DamagedError
from bpfmatrix.host import records
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.store import Store, require_space
from tests.damage import flip_bit_quietly
from tests.kernels import synthetic
from tests.kernels.conftest import apt_kernel
from tests.tool import REPOSITORY

PROVENANCE = Provenance("apt here", (Package("linux-image-x", "6.1.5-1", "00"),), "Debian")

# Stores a kernel some times, and then kills itself just before a rename of the next time.
KILLED = """
import os, signal, sys
from pathlib import Path
from bpfmatrix.host.cache import Cache
from tests.kernels.test_store import add
cache, times, renames = Cache(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
for _ in range(times):
    add(cache)
def hook(event, arguments):
    global renames
    if event == "os.rename":
        renames -= 1
        if renames == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
add(cache)
"""


def add(cache: Cache, vmlinuz: bytes = synthetic.bzimage()) -> KernelImage:
    with cache.staging() as staging:
        modules = staging / "root/lib/modules" / synthetic.RELEASE
        modules.mkdir(parents=True)
        (modules / "a.ko").write_bytes(b"module")
        (staging / "root/vmlinuz").write_bytes(vmlinuz)
        return Store(cache).add(apt_kernel(), staging, "6.1.5", PROVENANCE)


def test_an_image_is_what_was_stored(cache: Cache) -> None:
    image = add(cache)
    image.verify()
    assert KernelImage.load(image.folder) == image == kernels.cached(apt_kernel(), cache)
    assert image.description == "6.1.5 (Debian 6.1.5-1, apt here)"
    assert image.release == synthetic.RELEASE
    assert image.read_modules(["a.ko"]) == {"a.ko": b"module"}
    with pytest.raises(KeyError):
        image.read_modules(["../../../kernel.json"])
    assert kernels.provide(apt_kernel(), cache) == (image, True)


def test_the_same_content_is_stored_once(cache: Cache) -> None:
    assert add(cache).folder == add(cache).folder
    other = synthetic.bzimage(gzip.compress(synthetic.vmlinux(text=b"other")))
    assert add(cache, other).folder != add(cache).folder
    assert len(Store(cache).folders()) == 2


def test_a_kernel_of_another_architecture_is_refused(cache: Cache) -> None:
    with pytest.raises(BpfmatrixError, match="is for aarch64, not for x86_64"):
        add(cache, synthetic.arm64_image())
    assert Store(cache).folders() == []


def test_an_image_without_a_checksum_is_damaged(cache: Cache) -> None:
    image = add(cache)
    description = image.folder / "kernel.json"
    data = records.read(description)
    assert data is not None
    del data["sha256"]["vmlinux"]
    records.write(description, data)
    with pytest.raises(DamagedError):
        image.verify_boot()


@pytest.mark.parametrize(
    ("times", "rename", "is_cached"),
    [
        (0, 1, False),  # before its description appears
        (0, 2, False),  # before the image appears
        (0, 3, False),  # before its ref appears
        (1, 2, True),  # before the image of the first time is moved away
        (1, 3, False),  # before the image of the second time appears
        (1, 4, True),  # before its ref appears
    ],
)
def test_a_process_that_is_killed_while_it_stores(
    cache: Cache, times: int, rename: int, is_cached: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(cache.root), str(times), str(rename)],
        cwd=REPOSITORY,  # where `tests` is found
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    # There is always a complete image, or none at all.
    image = kernels.cached(apt_kernel(), cache)
    assert (image is not None) == is_cached
    if image:
        image.verify()
    add(cache).verify()
    assert len(Store(cache).folders()) == 1
    assert list((cache.root / "tmp").iterdir()) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["ref", "kernel.json", "modules.json"]), data=st.data())
def test_wild_descriptions_are_damage(cache: Cache, name: str, data: st.DataObject) -> None:
    image = add(cache)
    (ref,) = (cache.root / "refs").glob("*/*.json")
    path = ref if name == "ref" else image.folder / name
    good = json.loads(path.read_bytes())
    anything = st.recursive(
        st.none() | st.integers() | st.text(), lambda x: st.lists(x, max_size=2)
    )
    key = data.draw(st.sampled_from(sorted(good)))
    changed = data.draw(
        st.one_of(
            anything.map(json.dumps).map(str.encode),
            anything.map(lambda value: json.dumps({**good, key: value}).encode()),
            st.integers(0, 200).map(lambda end: path.read_bytes()[:end]),
            st.binary(max_size=20),
        )
    )
    path.write_bytes(changed)
    try:
        if found := kernels.cached(apt_kernel(), cache):
            found.verify()
            if found.modules:  # that it has none is a description too
                found.read_modules(["a.ko"])
    except DamagedError:
        pass


def test_space_is_looked_at_before(tmp_path: Path) -> None:
    require_space(tmp_path, 1)
    with pytest.raises(BpfmatrixError, match="the cache needs 1099511627776 MB"):
        require_space(tmp_path, 1 << 60)


def test_a_cache_that_can_not_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BpfmatrixError, match="file can't be written"):
        kernels.provide(apt_kernel(), Cache(tmp_path / "file"))


# Caches of earlier versions


def without_checksum(path: Path) -> None:
    """Write a record as earlier versions did."""
    data = json.loads(path.read_bytes())
    del data["checksum"]
    path.write_text(json.dumps(data))


def test_an_image_of_an_earlier_version_is_used_and_from_then_on_protected(cache: Cache) -> None:
    image = add(cache)
    (image.folder / "config").write_text("CONFIG_BPF=y\n")  # those versions kept no checksum of it
    [ref] = (cache.root / "refs").glob("*/*.json")
    description = image.folder / "kernel.json"
    for path in (ref, description):
        without_checksum(path)
    (image.folder / "checked.json").unlink(missing_ok=True)
    assert kernels.provide(apt_kernel(), cache) == (image, True)
    assert records.read(description) is not None
    image.verify()
    flip_bit_quietly(image.folder / "config")
    with pytest.raises(DamagedError, match="config does not have the checksum"):
        image.verify_boot()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"digest": "sha256:', '"digest": "sha256:0'),
        ('"Debian"', '"debian"'),
        ('"vmlinuz": "', '"vmlinuz": "0'),
        ('"linux-image-x"', '"linux-image-y"'),
    ],
)
def test_a_damaged_description_of_an_earlier_version_is_damage(
    cache: Cache, old: str, new: str
) -> None:
    image = add(cache)
    description = image.folder / "kernel.json"
    without_checksum(description)
    text = description.read_text()
    assert old in text
    description.write_text(text.replace(old, new))
    with pytest.raises(DamagedError):
        KernelImage.load(image.folder).verify_boot()


def test_a_ref_of_an_earlier_version_to_another_image_counts_as_none(cache: Cache) -> None:
    other = add(cache, synthetic.bzimage(gzip.compress(synthetic.vmlinux(text=b"other"))))
    with cache.staging() as staging:
        (staging / "root").mkdir()
        (staging / "root/vmlinuz").write_bytes(synthetic.bzimage())
        provenance = Provenance("apt here", (Package("linux-image-y", "6.1.6-1", "11"),))
        Store(cache).add(apt_kernel(), staging, "6.1.6", provenance)
    [ref] = (cache.root / "refs").glob("*/*.json")
    without_checksum(ref)
    data = json.loads(ref.read_bytes())
    data["image"] = str(other.folder.relative_to(cache.root))
    ref.write_text(json.dumps(data))
    assert kernels.cached(apt_kernel(), cache) is None
