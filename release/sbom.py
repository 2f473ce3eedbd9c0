"""The SBOM of a wheel: a CycloneDX file that names what the wheel has inside, and what it needs.

Inside are the modules that Go linked into its programs (as `go version -m` reads them from these),
the crates of loader-aya, and libbpf and the static libraries of the programs in C. What it needs
are the packages that pip installs with it, in a range of versions.
"""

import re
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.hash.factories import HashTypeFactory
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement

from bpfmatrix.host.architecture import DEFAULT
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.progress import silent
from bpfmatrix.payload import shipped
from bpfmatrix.payload.loaders import aya_loader, libbpf_source, sysroot
from release import notices

__all__ = ["go_modules", "of_wheel", "static_libraries", "to_json", "without_notice"]

GO_PROGRAMS = tuple(
    name for name in shipped.PROGRAMS if name not in ("loader-libbpf", "loader-aya")
)
# For each static library: its licence, the header that has its version, a pattern for that, and how
# the version is made of what the pattern finds. elfutils counts 188 for 0.188.
LIBRARIES = {
    "glibc": (
        "LGPL-2.1-or-later",
        "features.h",
        r"define\s+__GLIBC__\s+(\d+)\s+#define\s+__GLIBC_MINOR__\s+(\d+)",
        "{0}.{1}",
    ),
    "elfutils": (
        "GPL-2.0-or-later OR LGPL-3.0-or-later",
        "elfutils/version.h",
        r"_ELFUTILS_VERSION\s+(\d+)",
        "0.{0}",
    ),
    "zlib": ("Zlib", "zlib.h", r'ZLIB_VERSION\s+"([^"]+)"', "{0}"),
    "jansson": ("MIT", "jansson.h", r'JANSSON_VERSION\s+"([^"]+)"', "{0}"),
}


def of_wheel(wheel: Path) -> Bom:
    """Return the SBOM of a wheel; the cache has what its program in C was built from."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = _metadata(archive)
        inside = sorted(
            {*_inside(archive), *_vendored(archive, metadata)},
            key=lambda component: component.bom_ref.value or "",
        )
    needed = [_python(Requirement(text)) for text in metadata.get_all("Requires-Dist", [])]
    bom = Bom(components=[*inside, *needed])
    bom.metadata.component = root = _distribution(wheel, metadata)
    # The same wheel has the same serial number.
    bom.serial_number = uuid5(NAMESPACE_URL, sha256(wheel.read_bytes()))
    bom.register_dependency(root, [*inside, *needed])
    return bom


def to_json(bom: Bom) -> str:
    """Return an SBOM as JSON; ValueError if it does not follow CycloneDX's schema."""
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise ValueError(f"the SBOM does not follow CycloneDX's schema: {error}")
    return text + "\n"


def without_notice(wheel: Path, bom: Bom) -> list[str]:
    """Return the names of components inside a wheel that its third-party notices do not name."""
    inside = [each for each in bom.components if each.purl and each.purl.type != "pypi"]
    if not inside:
        return []
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"bpfmatrix/loader/{notices.NAME}").decode()
    names = {name for name, _ in notices.named(text)}
    return sorted(each.name for each in inside if each.name not in names)


def _metadata(archive: zipfile.ZipFile) -> Message:
    [name] = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
    return BytesParser().parsebytes(archive.read(name))


def _distribution(wheel: Path, metadata: Message) -> Component:
    name, version = metadata["Name"], metadata["Version"]
    return Component(
        type=ComponentType.APPLICATION,
        name=name,
        version=version,
        bom_ref=f"{name}=={version}",
        description=metadata["Summary"],
        licenses=[LicenseFactory().make_from_string(metadata["License-Expression"])],
        purl=PackageURL("pypi", name=name, version=version),
        hashes=[HashTypeFactory().from_hashlib_alg("sha256", sha256(wheel.read_bytes()))],
        external_references=[
            ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(url))
            for label, _, url in (
                text.partition(", ") for text in metadata.get_all("Project-URL", [])
            )
            if label == "Source"
        ],
    )


def _python(needed: Requirement) -> Component:
    """Return a package that pip installs; which version, the installing machine decides."""
    optional = needed.marker is not None and "extra" in str(needed.marker)
    return Component(
        type=ComponentType.LIBRARY,
        name=needed.name,
        bom_ref=f"pypi:{needed.name}",
        purl=PackageURL("pypi", name=needed.name),
        scope=ComponentScope.OPTIONAL if optional else ComponentScope.REQUIRED,
        properties=[Property(name="bpfmatrix:requirement", value=str(needed))],
    )


def _inside(archive: zipfile.ZipFile) -> Iterator[Component]:
    programs = [name for name in archive.namelist() if name.startswith("bpfmatrix/loader/")]
    stems = {Path(name).name.rpartition("-")[0] for name in programs}
    with TemporaryDirectory() as folder:
        for name in programs:
            if Path(name).name.rpartition("-")[0] in GO_PROGRAMS:
                yield from go_modules(Path(archive.extract(name, folder)))
    if stems & {"loader-libbpf", "loader-aya"}:
        libraries = static_libraries(sysroot.obtain(DEFAULT.name, Cache.default(), silent))
        yield from (each for each in libraries if "loader-libbpf" in stems or each.name == "glibc")
    if "loader-libbpf" in stems:
        version, licence = libbpf_source.VERSION, "LGPL-2.1-only OR BSD-2-Clause"
        yield _component("libbpf", version, PackageURL("generic", None, "libbpf", version), licence)
    if "loader-aya" in stems:
        yield from _crates((aya_loader.SOURCES / "Cargo.lock").read_text())


def _vendored(archive: zipfile.ZipFile, metadata: Message) -> Iterator[Component]:
    """Give the copy of bytecode-lines, which has the version of the wheel and its licence."""
    if any(name.startswith("bpfmatrix/vendored/bytecode_lines/") for name in archive.namelist()):
        version = metadata["Version"]
        purl = PackageURL("pypi", None, "bytecode-lines", version)
        yield _component("bytecode-lines", version, purl, "Apache-2.0")


def _component(
    name: str, version: str, purl: PackageURL, licence: str = "", digest: str = ""
) -> Component:
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=purl.to_string(),
        purl=purl,
        licenses=[LicenseFactory().make_from_string(licence)] if licence else (),
        hashes=[HashTypeFactory().from_hashlib_alg("sha256", digest)] if digest else (),
    )


def go_modules(program: Path) -> Iterator[Component]:
    """Give the modules in a program that Go built, and Go's own library.

    `go version -m` prints `PATH: go1.26.8`, and a line for each module: a tab, `dep`, its path, its
    version, and its checksum, with tabs between them.
    """
    command = ("go", "version", "-m", str(program))
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    compiler = said.partition("\n")[0].rpartition(" go")[2].partition(" ")[0]
    yield _component("stdlib", compiler, PackageURL("golang", None, "stdlib", compiler))
    for path, version in re.findall(r"^\tdep\t(\S+)\t(\S+)", said, re.MULTILINE):
        namespace, _, name = path.rpartition("/")
        yield _component(path, version, PackageURL("golang", namespace, name, version))


def _crates(lock: str) -> Iterator[Component]:
    # Those without a source are loader-aya itself.
    for crate in tomllib.loads(lock)["package"]:
        if "source" in crate:
            name, version = crate["name"], crate["version"]
            purl = PackageURL("cargo", None, name, version)
            yield _component(name, version, purl, digest=crate.get("checksum", ""))


def static_libraries(sysroot_tar: Path) -> Iterator[Component]:
    """Give the static libraries that programs in C are linked with, by their headers' versions."""
    with tarfile.open(sysroot_tar) as archive:
        for name, (licence, header, pattern, form) in LIBRARIES.items():
            file = archive.extractfile(f"usr/include/{header}")
            found = re.search(pattern, file.read().decode()) if file else None
            if found is None:
                raise LookupError(f"{header} does not say which version of {name} it is of")
            version = form.format(*found.groups())
            yield _component(name, version, PackageURL("generic", None, name, version), licence)
