import pytest

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.kernels.sources.apt_packages import Deb, default_pattern, parse_index, resolve


def stanza(name: str, version: str, depends: str = "") -> str:
    text = f"Package: {name}\nSource: linux\nVersion: {version}\nInstalled-Size: 15\n"
    text += f"Depends: {depends}\n" if depends else ""
    return f"{text}Description: Linux\n more\nSize: 1928\nSHA256: {name}-{version}\n"


V7 = "7.3.4-1~bpo13+1"
INDEX = "\n".join(
    [
        stanza("bash", "5.2", "linux-image-nonsense"),
        stanza("linux-image-6.1.0-9-cloud-amd64", "6.1.90-1"),
        stanza("linux-image-6.1.0-10-cloud-amd64", "6.1.100-1", "kmod, linux-base (>= 4.3~)"),
        stanza("linux-image-6.1.0-10-cloud-amd64-dbg", "6.1.100-1"),
        stanza("linux-image-6.1.0-10-cloud-amd64-unsigned", "6.1.100-1"),
        stanza("linux-image-6.1.0-10-rt-amd64", "6.1.100-1"),
        stanza("linux-image-6.1.0-10-amd64", "6.1.100-1"),
        stanza("linux-image-6.12.9+deb13-cloud-amd64", "6.12.9-1~bpo13+1"),
        stanza("linux-image-6.12+deb13-cloud-amd64", "6.12~rc7-1"),
        stanza("linux-image-cloud-amd64", "7.3+1", f"linux-image-7.3.4-cloud-amd64 (= {V7})"),
        stanza(
            "linux-image-7.3.4-cloud-amd64",
            V7,
            "dracut | linux-initramfs-tool, linux-base-7.3.4-cloud-amd64,"
            f" linux-binary-7.3.4-cloud-amd64 (= {V7}), linux-modules-7.3.4-cloud-amd64 (= {V7})",
        ),
        stanza("linux-binary-7.3.4-cloud-amd64", V7),
        stanza("linux-binary-7.3.4-cloud-amd64", "7.3.4-2"),
        stanza("linux-modules-7.3.4-cloud-amd64", V7, "kmod"),
        stanza("linux-base-7.3.4-cloud-amd64", V7),
    ]
)


@pytest.fixture(scope="module")
def debs() -> list[Deb]:
    return parse_index(INDEX)


def test_an_index_is_read(debs: list[Deb]) -> None:
    assert len(debs) == 14
    assert debs[0] == Deb(
        "linux-image-6.1.0-9-cloud-amd64",
        "6.1.90-1",
        "",
        1928,
        15 << 10,
        "linux-image-6.1.0-9-cloud-amd64-6.1.90-1",
    )


def test_an_entry_without_a_checksum_is_a_sentence() -> None:
    with pytest.raises(BpfmatrixError, match="entry of linux-image-x"):
        parse_index("Package: linux-image-x\nVersion: 1\nSize: 3\n")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        # 6.1.0-10 is newer than 6.1.0-9, although "9" sorts after "1".
        ("linux-image-6.1.*-cloud-amd64", "linux-image-6.1.0-10-cloud-amd64"),
        ("linux-image-6.12.*-cloud-amd64", "linux-image-6.12.9+deb13-cloud-amd64"),
        ("linux-image-6.1.*-amd64-dbg", None),
        ("linux-image-6.1.*-amd64-unsigned", "linux-image-6.1.0-10-cloud-amd64-unsigned"),
        ("linux-image-6.1.*-rt-amd64", "linux-image-6.1.0-10-rt-amd64"),
        ("linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64"),
    ],
)
def test_the_newest_is_chosen(debs: list[Deb], pattern: str, name: str | None) -> None:
    expected = name or "linux-image-6.1.0-10-cloud-amd64-dbg"
    assert resolve(debs, pattern, "here")[0].name == expected


def test_the_order_of_versions_is_debians() -> None:
    texts = ["6.18.2-1", "6.18.10-1~bpo13+1", "6.18.10-1"]
    debs = parse_index("\n".join(stanza(f"linux-image-{i}", v) for i, v in enumerate(texts)))
    assert resolve(debs, "linux-image-*", "here")[0].version == "6.18.10-1"


def test_an_unknown_package_names_its_neighbours(debs: list[Deb]) -> None:
    with pytest.raises(KernelUnavailableError) as raised:
        resolve(debs, "linux-image-6.2.*-cloud-amd64", "bookworm-security")
    assert raised.value.what == "bookworm-security has no package linux-image-6.2.*-cloud-amd64"
    assert "linux-image-6.1.0-10-cloud-amd64" in raised.value.advice


def test_a_meta_package_is_followed_to_the_parts(debs: list[Deb]) -> None:
    found = resolve(debs, "linux-image-cloud-amd64", "here")
    assert [(deb.name, deb.version) for deb in found] == [
        ("linux-image-cloud-amd64", "7.3+1"),
        ("linux-image-7.3.4-cloud-amd64", V7),
        ("linux-base-7.3.4-cloud-amd64", V7),
        ("linux-binary-7.3.4-cloud-amd64", V7),
        ("linux-modules-7.3.4-cloud-amd64", V7),
    ]
    assert found[-1].upstream_version == "7.3.4"


def test_a_package_whose_parts_left_the_archive_is_passed_over() -> None:
    names = ["linux-image-6.19.9", "linux-image-6.19.8"]
    index = [
        stanza(
            f"{name}",
            name[12:],
            f"linux-base-{name[12:]}, linux-modules-{name[12:]} (= {name[12:]})",
        )
        for name in names
    ]
    debs = parse_index("\n".join([*index, stanza("linux-modules-6.19.8", "6.19.8")]))
    found = resolve(debs, "linux-image-6.19.*", "here")
    assert [deb.name for deb in found] == ["linux-image-6.19.8", "linux-modules-6.19.8"]
    with pytest.raises(KernelUnavailableError) as raised:
        resolve(debs, "linux-image-6.19.9", "here")
    assert raised.value.what == (
        "here has linux-image-6.19.9 but no longer linux-modules-6.19.9, which it needs"
    )


@pytest.mark.parametrize(
    ("id", "arch", "pattern"),
    [
        ("6.1", "x86_64", "linux-image-6.1.*-cloud-amd64"),
        ("6.1-arm64", "aarch64", "linux-image-6.1.*-cloud-arm64"),
        ("5.10", "x86_64", "linux-image-5.10.*-cloud-amd64"),
        ("6.12-riscv64", "riscv64", "linux-image-6.12.*-riscv64"),
        ("6.12-s390x", "s390x", "linux-image-6.12.*-s390x"),
        ("6.12-ppc64el", "ppc64le", "linux-image-6.12.*-powerpc64le"),
    ],
)
def test_the_default_pattern(id: str, arch: str, pattern: str) -> None:
    assert default_pattern(id, arch) == pattern


def test_an_id_without_a_release_needs_a_package() -> None:
    with pytest.raises(BpfmatrixError, match="does not begin with a release"):
        default_pattern("newest", "x86_64")
