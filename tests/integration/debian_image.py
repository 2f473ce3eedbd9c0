"""A small Debian as an image: each package is a layer, as dpkg-deb gives it."""

import re
import subprocess
import tarfile
from pathlib import Path

from debian.debian_support import Version

from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.sources.apt_archive import Archive
from tests.oci.registry import OCI, Descriptor, layer, special
from tests.rootfs.layouts import Layout

SUITE = "bookworm"
PACKAGES = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "grep", "libc-bin", "libc6"),
    *("libacl1", "libattr1", "libgmp10", "libpcre2-8-0", "libselinux1", "libtinfo6", "libgcc-s1"),
    *("libexpat1", "libpython3.11-minimal", "libssl3", "python3-minimal", "python3.11-minimal"),
    *("libpython3.11-stdlib", "libffi8"),
    *("iproute2", "libbpf1", "libbsd0", "libcap2", "libdb5.3", "libelf1", "libmd0", "libmnl0"),
    *("libtirpc3", "libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libkrb5support0"),
    *("libcom-err2", "libkeyutils1", "libxtables12", "zlib1g", "libzstd1"),
    *("nftables", "libnftables1", "libnftnl11", "libjansson4", "libedit2"),
    *("iputils-ping", "libcap2-bin", "mount", "libmount1", "libblkid1", "util-linux"),
    *("libsmartcols1", "libudev1", "libuuid1", "libcrypt1"),
)


def write(folder: Path) -> Layout:
    """Write the image `12` into a new OCI layout."""
    cache = Cache.default()
    archive = Archive.of_host(cache, SUITE, "x86_64")
    names = "|".join(re.escape(name) for name in PACKAGES)
    with archive.locked(), cache.staging() as staging:
        archive.update()
        found = archive.debs(re.compile(rf"Package: ({names})\n"))
        newest = {deb.name: deb for deb in sorted(found, key=lambda deb: Version(deb.version))}
        assert newest.keys() == set(PACKAGES)
        debs = archive.download([newest[name] for name in PACKAGES], staging)
        layers = [_layer(deb) for deb in debs]
    made = Layout(folder)
    made.image("12", [*layers, _finish()], env=["PATH=/usr/bin:/bin:/usr/sbin:/sbin", "FROM=image"])
    return made


def _layer(deb: Path) -> Descriptor:
    data = subprocess.check_output(["dpkg-deb", "--fsys-tarfile", deb])
    return Descriptor(f"{OCI}.layer.v1.tar", data)


def _finish() -> Descriptor:
    """Return what the packages' scripts would have done: a shell, users and a capability."""
    ping = tarfile.TarInfo("usr/local/bin/ping-copy")
    ping.mode, ping.size = 0o755, 2
    # cap_net_raw+ep, in the kernel's struct vfs_cap_data.
    value = bytes.fromhex("0100000200200000" + "00" * 12).decode(errors="surrogateescape")
    ping.pax_headers = {"SCHILY.xattr.security.capability": value}
    setgid = tarfile.TarInfo("usr/local/bin/setgid")
    setgid.mode, setgid.gid, setgid.size = 0o2755, 42, 2
    return layer(
        [
            special("bin/sh", tarfile.SYMTYPE, "bash"),
            ("etc/passwd", b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/sh\n"),
            ("etc/group", b"root:x:0:\nnogroup:x:65534:\n"),
            (ping, b"#!"),
            (setgid, b"#!"),
        ]
    )
