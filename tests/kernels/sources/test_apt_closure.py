from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.sources.apt_archive import Archive
from bpfmatrix.kernels.sources.apt_closure import Catalogue, Found
from bpfmatrix.kernels.sources.apt_get import AptGetArchive
from bpfmatrix.kernels.sources.apt_sources import AptEntry


def archive(suite: str) -> Archive:
    return AptGetArchive(Cache(Path("/cache")), AptEntry("http://debian", suite), suite, "x86_64")


def stanza(name: str, version: str, **fields: str) -> str:
    more = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in fields.items())
    return f"Package: {name}\nVersion: {version}\nSize: 1\nSHA256: {name}-{version}\n{more}"


SECURITY = archive("trixie-security")
STABLE = archive("trixie")
BACKPORTS = archive("trixie-backports")
PACKAGES = {
    SECURITY: [stanza("libc6", "2.41-2"), stanza("perf", "6.12.9-1", Depends="libc6 (>= 2.41)")],
    STABLE: [
        stanza("libc6", "2.41-1"),
        stanza("bpftrace", "0.23", Depends="libc6 (>= 2.40), libbpf1 (>= 1.4) | libbpf0, awk"),
        stanza("libbpf1", "1.5", Pre_Depends="init-system"),
        stanza("mawk", "1.3", Provides="awk"),
        stanza("init-system", "1", Depends="gone-from-everywhere, bpftrace"),
        stanza("libbpf-tools", "1", Depends="libbpf1 (>= 1.7)"),
    ],
    BACKPORTS: [
        stanza("perf", "7.3.4-1", Depends="libc6 (>= 2.41)"),
        stanza("libbpf1", "1.7"),
        stanza("bpftrace", "0.24"),
    ],
}


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue([(archive, "\n\n".join(texts)) for archive, texts in PACKAGES.items()])


def shown(found: tuple[Found, ...]) -> set[str]:
    return {f"{each.deb.name} {each.deb.version} {each.archive.suite}" for each in found}


def test_all_that_a_package_needs_is_found_once(catalogue: Catalogue) -> None:
    assert shown(catalogue.closure(["bpftrace", "perf"])) == {
        "bpftrace 0.23 trixie",
        "perf 6.12.9-1 trixie-security",
        "libc6 2.41-2 trixie-security",
        "libbpf1 1.5 trixie",
        "mawk 1.3 trixie",
        "init-system 1 trixie",
    }


def test_the_kernels_own_packages_are_the_newest_ones(catalogue: Catalogue) -> None:
    found = shown(catalogue.closure(["perf", "bpftrace"], newest=["perf"]))
    assert {"perf 7.3.4-1 trixie-backports", "bpftrace 0.23 trixie"} <= found


def test_a_newer_suite_has_what_an_older_one_has_too_old(catalogue: Catalogue) -> None:
    assert shown(catalogue.closure(["libbpf-tools"])) == {
        "libbpf-tools 1 trixie",
        "libbpf1 1.7 trixie-backports",
    }


def test_in_place_of_a_package_that_an_archive_lacks_another_version_is_found(
    catalogue: Catalogue,
) -> None:
    first = catalogue.closure(["perf"], newest=["perf"])
    again = catalogue.closure(["perf"], newest=["perf"], without=first)
    assert shown(again) == {"perf 6.12.9-1 trixie-security", "libc6 2.41-1 trixie"}
    with pytest.raises(KernelUnavailableError, match="no suite has the package perf"):
        catalogue.closure(["perf"], without=[*first, *again])


def test_a_virtual_package_is_found_by_its_version_and_in_folded_fields() -> None:
    texts = [
        stanza("a", "1", Depends="virtual (>= 2)"),
        stanza("old", "1", Provides="virtual (= 1), "),
        stanza("plain", "1", Provides="other,\n virtual"),
        stanza("new", "1", Provides="other,\n virtual (= 2)"),
        stanza("b", "1", Depends="virtual (>= 3), new (>= 2)"),
    ]
    catalogue = Catalogue([(STABLE, "\n\n".join(texts))])
    assert shown(catalogue.closure(["a"])) == {"a 1 trixie", "new 1 trixie"}
    assert shown(catalogue.closure(["b"])) == {"b 1 trixie"}


def test_a_version_that_is_none_is_a_sentence() -> None:
    texts = [stanza("a", "not a version!"), stanza("b", "1", Depends="a (>= 1)")]
    catalogue = Catalogue([(STABLE, "\n\n".join(texts))])
    assert shown(catalogue.closure(["b"])) == {"b 1 trixie"}
    with pytest.raises(BpfmatrixError, match="the index's entry of a can't be read"):
        catalogue.closure(["a"], newest=["a"])
