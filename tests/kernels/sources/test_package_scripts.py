"""A package's own scripts, which never run on this host."""

import subprocess
from pathlib import Path

from bpfmatrix.kernels.sources.package_files import describe, unpack


def test_the_scripts_of_a_package_do_not_run(tmp_path: Path) -> None:
    folder, ran = tmp_path / "bad", tmp_path / "ran"
    (folder / "DEBIAN").mkdir(parents=True)
    (folder / "DEBIAN").chmod(0o755)
    (folder / "DEBIAN/control").write_text(
        "Package: bad\nVersion: 1\nArchitecture: all\n"
        "Maintainer: x <x@example.org>\nDescription: x\n"
    )
    for name in ("preinst", "postinst", "config"):
        script = folder / "DEBIAN" / name
        script.write_text(f"#!/bin/sh\ntouch {ran}\n")
        script.chmod(0o755)
    (folder / "boot").mkdir()
    (folder / "boot/vmlinuz-1").write_text("a kernel")
    # Neither does a file with special rights keep them.
    (folder / "boot/vmlinuz-1").chmod(0o6755)
    package, root = tmp_path / "bad.deb", tmp_path / "root"
    subprocess.run(["dpkg-deb", "--build", folder, package], check=True, capture_output=True)
    root.mkdir()
    assert describe(package)[0].name == "bad"
    unpack([package], root)
    assert not ran.exists()
    assert [path.name for path in root.rglob("*")] == ["vmlinuz"]
    assert (root / "vmlinuz").stat().st_mode & 0o7111 == 0
