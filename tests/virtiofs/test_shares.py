"""The options --rootfs and --share."""

from pathlib import Path

import pytest

from bpfmatrix.errors import UsageError
from bpfmatrix.rootfs.spec import RootSpec, parse
from bpfmatrix.virtiofs import shares
from bpfmatrix.virtiofs.shares import HostFiles, SharedFolder


def test_shares_are_absolute_and_the_outer_ones_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outer/inner:rw").mkdir(parents=True)
    (tmp_path / "link").symlink_to("outer")
    monkeypatch.chdir(tmp_path)
    found = shares.parse_options(None, ["link/inner:rw:ro", "outer:rw"])
    outer, inner = SharedFolder(tmp_path / "outer", True), SharedFolder(tmp_path / "outer/inner:rw")
    assert found == HostFiles(None, (outer, inner), tmp_path)
    assert shares.parse_options("host", []).is_host
    assert not shares.parse_options(None, [])
    assert shares.parse_options("outer", []).root == tmp_path / "outer"
    with_image = shares.parse_options("oci:debian:12", ["/usr"])
    assert (with_image.root, with_image.has_root, with_image.is_host) == (None, True, False)
    assert with_image.image == parse("oci:debian:12", "--rootfs")


@pytest.mark.parametrize(
    ("rootfs", "share", "words"),
    [
        ("missing", [], "--rootfs missing: no such folder"),
        ("file", [], "--rootfs file: not a folder"),
        ("empty", [], "--rootfs empty: the folder is empty"),
        (None, ["missing:rw"], "--share missing: no such folder"),
        (None, ["file"], "--share file: not a folder"),
        (None, ["loop"], "--share loop: "),
        (None, ["empty:rwx"], "--share empty:rwx: no such folder"),
        (None, ["a\0b"], "no such folder"),
        (None, ["empty", "./empty:rw"], "is shared already"),
        (None, ["/"], "--share /: the guest has its own /"),
        (None, ["/usr"], "--share /usr: the guest has its own /usr"),
        ("host", ["/proc/sys"], "--share /proc/sys: the guest has its own /proc/sys"),
        ("host", ["/run"], "--share /run: the guest has its own /run"),
    ],
)
def test_values_that_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rootfs: str | None,
    share: list[str],
    words: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        shares.parse_options(rootfs, share)
    assert words in caught.value.what
    assert caught.value.advice


def test_usr_can_be_shared_with_a_root_of_the_hosts() -> None:
    assert shares.parse_options("host", ["/usr"]).shares == (SharedFolder(Path("/usr")),)


def test_the_root_of_the_command_line_replaces_that_of_kernels_yaml(tmp_path: Path) -> None:
    (tmp_path / "tree/bin").mkdir(parents=True)
    image = parse("oci:debian:12", "--rootfs")

    def root(declared: str | None, typed: str | None) -> tuple[Path | None, RootSpec | None]:
        found = shares.chosen_files(tmp_path, (declared, ()), (typed, ()))
        return found.root, found.image

    assert root("oci:debian:12", None) == (None, image)
    assert root("tree", None) == (tmp_path / "tree", None)
    assert root("tree", "oci:debian:12") == (None, image)
    assert root("oci:debian:12", "host") == (Path("/"), None)
    assert root("oci:debian:12", "none") == (None, None)
    with pytest.raises(UsageError, match=r"kernels.yaml: payload.rootfs oci:X: not the name of an"):
        root("oci:X", None)


def test_secrets_are_not_passed_on() -> None:
    ours = {
        "PATH": "/home/me/bin:/usr/bin",
        "LC_ALL": "C",
        "AWS_SECRET_ACCESS_KEY": "x",
        "PYTHONPATH": "a\nb",
    }
    host = shares.environment(HostFiles(Path("/")), ours)
    path = "/home/me/bin:/usr/bin:/usr/sbin:/sbin"
    assert host == {"PATH": path, "LC_ALL": "C", "TMPDIR": "/run/tmp"}
    tree = shares.environment(HostFiles(Path("/srv/tree")), ours)
    assert tree["PATH"].startswith("/usr/local/sbin:")
    assert tree["HOME"] == "/root"
    assert shares.environment(HostFiles(), ours) == {}
