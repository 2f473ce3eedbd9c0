"""What --rootfs and the key `rootfs` may name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bpfmatrix.errors import UsageError
from bpfmatrix.rootfs.spec import RootSpec, parse
from tests.rootfs.layouts import Layout

DIGEST = f"sha256:{'0123456789abcdef' * 4}"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("text", "name", "tag", "digest"),
    [
        ("oci:debian:12", "docker.io/library/debian", "12", ""),
        ("oci:debian", "docker.io/library/debian", "latest", ""),
        ("oci:docker.io/library/debian:12", "docker.io/library/debian", "12", ""),
        ("oci:cilium/ci:x", "docker.io/cilium/ci", "x", ""),
        (f"oci:ghcr.io/a/b@{DIGEST}", "ghcr.io/a/b", "", DIGEST),
        ("oci:127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b", "1", ""),
    ],
)
def test_images_of_registries(text: str, name: str, tag: str, digest: str) -> None:
    spec = parse(text, "--rootfs")
    assert spec.image is not None
    assert (spec.image.name, spec.image.tag, spec.image.digest) == (name, tag, digest)
    assert spec.is_image
    assert not spec.is_host
    assert spec.folder is None


def test_the_host_and_folders(tmp_path: Path) -> None:
    assert parse("host", "--rootfs") == RootSpec("host", folder=Path("/"))
    assert parse("host", "--rootfs").is_host
    (tmp_path / "home/tree/bin").mkdir(parents=True)
    (tmp_path / "link").symlink_to("home/tree")
    whole = tmp_path / "home/tree"
    for text in ("home/tree", "./home/tree/", "~/tree", str(whole), "link"):
        spec = parse(text, "--rootfs")
        assert spec == RootSpec(text, folder=whole)
        assert not spec.is_image
    assert parse("tree", "--rootfs", tmp_path / "home").folder == whole


def test_layouts(tmp_path: Path) -> None:
    folder = tmp_path / "home/images/my:root"
    folder.parent.mkdir(parents=True)
    Layout(folder)
    for text in ("home/images/my:root", "oci:./home/images/my:root", f"oci:{folder}"):
        spec = parse(text, "--rootfs")
        assert spec.layout is not None, text
        assert (spec.layout.folder, spec.layout.tag, spec.layout.digest) == (folder, "", "")
        assert spec.is_image
    for text, tag, digest in (
        ("~/images/my:root:12", "12", ""),
        ("oci:~/images/my:root:v1.2", "v1.2", ""),
        (f"home/images/my:root@{DIGEST}", "", DIGEST),
    ):
        spec = parse(text, "--rootfs")
        assert spec.layout is not None, text
        assert (spec.layout.folder, spec.layout.tag, spec.layout.digest) == (folder, tag, digest)


@pytest.mark.parametrize(
    ("text", "what", "advice"),
    [
        ("oci:", "not the name of an image", "Expected: oci:NAME"),
        ("oci:Debian:12", "not the name of an image", "Expected: oci:NAME"),
        ("oci:debian@sha256:12", "not the name of an image", "Expected: oci:NAME"),
        ("oci:debian:12 --x", "not the name of an image", "Expected: oci:NAME"),
        ("oci:./file", "no OCI image layout is there", "a folder with a file oci-layout"),
        ("oci:/nowhere:12", "no OCI image layout is there", "a folder with a file oci-layout"),
        ("debian:12", "no such folder", "The image of this name is oci:debian:12."),
        ("missing", "no such folder", "or an image such as oci:debian:12"),
        ("file", "not a folder", "Give the folder"),
        ("empty", "the folder is empty", "debootstrap"),
        ("a\0b", "no such folder", "Give `host`"),
        ("x" * 5000, "File name too long", "Give `host`"),
        ("", "it is empty", "Give `host`"),
    ],
)
def test_what_can_not_be_a_root(tmp_path: Path, text: str, what: str, advice: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    option = "kernels.yaml: rootfs:"
    with pytest.raises(
        UsageError, match=re.escape(f"{option} {text}: {what}" if text else what)
    ) as raised:
        parse(text, option, tmp_path / "empty" if not text else None)
    assert advice in raised.value.advice


def test_the_names_of_roots_are_read_without_what_fetches_them() -> None:
    # `nox -l` imports this module.
    slow = {"requests", "urllib3", "oras", "tarfile", "zstandard"}
    program = f"import sys, bpfmatrix.rootfs.spec; print({slow} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"
