"""Every series that the apt suites have, against a signed archive on loopback."""

from pathlib import Path

import pytest

from bpfmatrix import kernels
from bpfmatrix.cli.kernel_choice import kernel_ids, with_available
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels import series
from bpfmatrix.kernels.series import Available, LeftOut
from tests.kernels.archive import Archive
from tests.kernels.conftest import add_kernel, use_host_settings

pytestmark = pytest.mark.integration


@pytest.fixture
def project(
    tmp_path: Path, keyring: Path, cache: Cache, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> Project:
    """Two suites: one with 6.1 and 6.12, the other with newer ones, of which 7.1 is incomplete."""
    add_kernel(archive, "6.12.7", "6.12.7-1")
    archive.publish()
    backports = Archive(archive.root, archive.key_home, "trixie-backports")
    for name in ("6.12.9", "6.16.3", "6.16.12", "7.10.2"):
        add_kernel(archive, name, f"{name}-1~bpo13+1")
    release = "7.1.13-cloud-amd64"
    archive.add(f"linux-image-{release}", "7.1.13-1", depends=f"linux-modules-{release}")
    backports.publish()
    lines = [
        f"deb [signed-by={keyring}] {archive.uri} {suite} main\n"
        for suite in (archive.suite, backports.suite)
    ]
    use_host_settings(tmp_path, monkeypatch, "".join(lines))
    declared = {
        id: {"source": {"apt": {"suite": suite}}}
        for id, suite in (
            ("6.1", archive.suite),
            ("6.12", archive.suite),
            ("7.10", "trixie-backports"),
        )
    }
    other = {"6.16.3": {"source": {"oci": "example.org/kernel:6.16.3"}}}
    return Project(tmp_path, Config.model_validate({"kernels": {**declared, **other}}), cache)


def test_declared_kernels_stand_for_their_series(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    extended, ids = with_available(project, None)
    # By number and not by text; without what is declared of another kind or for one release.
    assert ids == ["6.1", "6.12", "6.16", "7.10"]
    assert capsys.readouterr().err == (
        "7.1 is left out: trixie-backports has linux-image-7.1.13-cloud-amd64 but no longer "
        "linux-modules-7.1.13-cloud-amd64, which it needs\n"
    )
    # trixie-backports has a newer 6.12, but kernels.yaml says where 6.12 is from.
    source = extended.config.kernel("6.12").source
    assert source.apt is not None
    assert source.apt.suite == "bookworm-security"
    image, _ = kernels.provide(extended.config.kernel("6.16"), project.cache)
    assert image.version == "6.16.12"
    assert kernels.newest_available(extended.config.kernel("6.16"), project.cache)


def test_flavours_are_not_mixed(
    tmp_path: Path, keyring: Path, cache: Cache, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_kernel(archive, "6.12.7", "6.12.7-1")
    for name in ("6.1.99", "6.12.99", "6.19.2"):
        add_kernel(archive, name, f"{name}-1", "rt-amd64")
    archive.publish()
    line = f"deb [signed-by={keyring}] {archive.uri} {archive.suite} main\n"
    use_host_settings(tmp_path, monkeypatch, line)
    apt = {"suite": archive.suite}
    real_time = {"source": {"apt": {**apt, "package": "linux-image-6.1.*-rt-amd64"}}}

    def found(kernels: dict[str, object]) -> tuple[Available, dict[str, str]]:
        config = Config.model_validate({"kernels": kernels}).at(tmp_path)
        offered = series.available(config, cache)
        single = {id: entry.source.apt for id, entry in offered.releases.items()}
        return offered, {id: apt.package or "" for id, apt in single.items() if apt}

    # What only the other flavour has is taken from there.
    offered, packages = found({"6.1-rt": real_time, "6.1": {"source": {"apt": apt}}})
    assert offered.ids == ("6.1", "6.12", "6.19")
    assert {id: "-rt-" in name for id, name in packages.items()} == {
        **{"6.1.190": False, "6.1.99": True},
        **{"6.12.7": False, "6.12.99": True, "6.19.2": True},
    }
    assert offered.config.kernel("6.12").source.apt == offered.config.kernel("6.1").source.apt
    # A kernel of the other flavour does not stand for its series, unless there is only that one.
    offered, _ = found({"6.1-rt": real_time, "6.12": {"source": {"apt": apt}}})
    assert offered.ids == ("6.1", "6.12", "6.19")
    offered, _ = found({"6.1-rt": real_time})
    assert offered.ids == ("6.1-rt", "6.12", "6.19")
    # By an id that says nothing else, the user chose it.
    offered, _ = found({"6.1": real_time, "6.12": {"source": {"apt": apt}}})
    assert offered.ids == ("6.1", "6.12", "6.19")
    assert series.flavour_of(offered.config.kernel("6.1")) == "linux-image-rt-amd64"


@pytest.mark.parametrize(
    ("package", "flavour"),
    [
        (None, "linux-image-cloud-amd64"),
        ("linux-image-cloud-amd64", "linux-image-cloud-amd64"),
        ("linux-image-6.1.*-cloud-amd64", "linux-image-cloud-amd64"),
        ("linux-image-6.1.0-56-cloud-amd64", "linux-image-cloud-amd64"),
        ("linux-image-6.16.3+deb13-rt-amd64", "linux-image-rt-amd64"),
        ("linux-image-6.8.*-generic", "linux-image-generic"),
        ("linux-image-6.8.0-31-generic", "linux-image-generic"),
        ("linux-image-6.12.*-arm64-16k", "linux-image-arm64-16k"),
        ("linux-image-*-rt-amd64", "linux-image-rt-amd64"),
    ],
)
def test_the_flavour_of_a_package(package: str | None, flavour: str) -> None:
    apt = {"suite": "s", **({"package": package} if package else {})}
    config = Config.model_validate({"kernels": {"6.1": {"source": {"apt": apt}}}})
    assert series.flavour_of(config.kernel("6.1")) == flavour


def test_patterns_take_both_kinds(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    patterns = "6.1,6.1[6-9],7.*"
    extended, default = with_available(project, patterns)
    assert kernel_ids(extended.config, patterns, default) == ["6.1", "6.16", "7.10"]
    assert capsys.readouterr().err.startswith("7.1 is left out: ")
    # Two dots name releases; the newest package of each.
    extended, default = with_available(project, "6.16.*,6.12")
    assert kernel_ids(extended.config, "6.16.*,6.12", default) == ["6.16.3", "6.16.12", "6.12"]
    assert capsys.readouterr().err == ""
    # What is declared keeps its meaning.
    assert extended.config.kernel("6.16.3").source.oci
    with_available(project, "6.*")
    assert capsys.readouterr().err == ""
    with pytest.raises(UsageError, match=r"--kernels 5\.\*: no such kernel"):
        kernel_ids(extended.config, "5.*", default)


def test_another_architecture_is_taken_where_it_is_asked_for(
    cache: Cache,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = {"source": {"apt": {"suite": "sid"}}}
    config = Config.model_validate({"kernels": {"6.1": entry, "6.1-arm64": entry}})
    everything = dict.fromkeys(
        ("6.1", "6.1-arm64", "6.16", "6.16-arm64", "7.1", "7.1-arm64"), entry
    )
    found = Available(
        Config.model_validate({"kernels": everything}),
        ids=("6.1", "6.16", "7.1"),
        releases={},
        left_out=(
            LeftOut("7.0", "x86_64", "7.0 is"),
            LeftOut("7.0-arm64", "aarch64", "7.0-arm64 is"),
        ),
    )
    monkeypatch.setattr(series, "available", lambda config, cache: found)
    project = Project(tmp_path, config, cache)

    def taken(patterns: str) -> tuple[list[str], str]:
        extended, default = with_available(project, patterns)
        return kernel_ids(extended.config, patterns, default), capsys.readouterr().err

    assert taken("6.1[6-9],7.*") == (["6.16", "7.1"], "7.0 is\n")
    assert taken("6.1*-arm64") == (["6.1-arm64", "6.16-arm64"], "")
    assert taken("7.*-arm64") == (["7.1-arm64"], "7.0-arm64 is\n")
