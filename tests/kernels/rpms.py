"""A small repository of RPM packages: rpmbuild, rpmsign, createrepo_c, gpg, and a web server."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.kernels.archive import gpg
from tests.web import Web

OWNER = "packages@example.org"


def make_rpm_key(home: Path) -> Path:
    """Make a signing key of the kind that vendors use; return its armored public half."""
    home.mkdir(mode=0o700, exist_ok=True)
    gpg(home, "--passphrase", "", "--quick-gen-key", OWNER, "rsa2048", "sign", "never")
    gpg(home, "--armor", "--output", str(home / "public.asc"), "--export", OWNER)
    return home / "public.asc"


@dataclass(frozen=True)
class Part:
    """One binary package of a build."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()


_HEAD = """\
Name: {source}
Version: {version}
Release: {release}
Vendor: {vendor}
License: GPL-2.0
Summary: a kernel
%global debug_package %{{nil}}
%global __os_install_post %{{nil}}
%global _build_id_links none
%global _binary_payload w3.zstdio
AutoReqProv: no
%description
A kernel.
"""
_PART = """\
%package -n {name}
Summary: a part of it
AutoReqProv: no
{relations}
%description -n {name}
A part of it.
%files -n {name}
{files}
"""


def build_rpms(
    folder: Path,
    parts: Mapping[str, Part],
    build: str = "6.1.190-9.el9",
    source: str = "kernel",
    vendor: str = "Example Linux",
    arch: str = "x86_64",
) -> list[Path]:
    """Build the packages of one source package into `folder`; returns them in the parts' order."""
    version, release = build.split("-")
    top = folder.parent / f"rpmbuild-{source}-{build}-{arch}"
    text = _HEAD.format(source=source, version=version, release=release, vendor=vendor)
    for name, part in parts.items():
        relations = [f"Requires: {text}" for text in part.requires]
        relations += [f"Provides: {text}" for text in part.provides]
        files = "\n".join(f"/{path}" for path in part.files)
        text += _PART.format(name=name, relations="\n".join(relations), files=files)
        for path, data in part.files.items():
            (top / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
            (top / "tree" / path).write_bytes(data)
    (top / "tree").mkdir(parents=True, exist_ok=True)
    (top / "kernel.spec").write_text(f"{text}%install\ncp -a {top}/tree/. %{{buildroot}}\n")
    folder.mkdir(exist_ok=True)
    names = "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"
    defines = {"_topdir": top, "_rpmdir": folder, "_rpmfilename": names}
    words = [word for pair in defines.items() for word in ("--define", f"{pair[0]} {pair[1]}")]
    command = ["rpmbuild", "-bb", "--target", arch, *words, str(top / "kernel.spec")]
    subprocess.run(command, check=True, capture_output=True)
    return [folder / f"{name}-{build}.{arch}.rpm" for name in parts]


class RpmRepository:
    """A repository on loopback. `publish` writes its metadata again."""

    def __init__(self, root: Path, key_home: Path) -> None:
        self.key_home = key_home
        self.web = Web(root)
        self.root = root

    @property
    def uri(self) -> str:
        return self.web.uri

    def add(
        self,
        parts: Mapping[str, Part],
        build: str = "6.1.190-9.el9",
        sign: bool = True,
        arch: str = "x86_64",
    ) -> None:
        """Build packages into it."""
        rpms = build_rpms(self.root, parts, build, arch=arch)
        if sign:
            self.sign(*rpms)

    def sign(self, *rpms: Path) -> None:
        gpg_program = shutil.which("gpg")
        defines = {"__gpg": gpg_program, "_gpg_name": OWNER, "_gpg_path": self.key_home}
        words = [word for pair in defines.items() for word in ("--define", f"{pair[0]} {pair[1]}")]
        subprocess.run(["rpmsign", *words, "--addsign", *rpms], check=True, capture_output=True)

    def publish(self, sign: bool = True) -> None:
        subprocess.run(["createrepo_c", "--quiet", self.root], check=True, capture_output=True)
        repomd = self.root / "repodata/repomd.xml"
        if sign:
            gpg(self.key_home, "--detach-sign", "--armor", str(repomd))
