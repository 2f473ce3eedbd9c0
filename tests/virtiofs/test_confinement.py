"""Confined processes, on this host's kernel: what they can't leave in a folder."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bpfmatrix.virtiofs import confinement

DROPPING = "from bpfmatrix.virtiofs.confinement import drop_capabilities as drop; drop(); "


def confined(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command, confined, in a folder."""
    return subprocess.run(
        confinement.command(words), cwd=folder, capture_output=True, text=True, check=False
    )


def python(text: str) -> tuple[str, str, str]:
    return sys.executable, "-c", f"import os, stat; {text}"


@pytest.mark.parametrize(
    ("refused", "errno"),
    [
        ("os.chmod('file', 0o4755)", "EPERM"),
        ("os.chmod('file', 0o2755)", "EPERM"),
        ("os.chmod(os.open('file', os.O_RDONLY), 0o6755)", "EPERM"),
        ("os.chmod('file', 0o4755, dir_fd=os.open('.', os.O_RDONLY))", "EPERM"),
        ("os.open('new', os.O_CREAT | os.O_WRONLY, 0o4755)", "EPERM"),
        ("os.open('new', os.O_CREAT | os.O_WRONLY, 0o2755)", "EPERM"),
        ("os.mkdir('new', 0o2755)", "EPERM"),
        ("os.mknod('new', stat.S_IFREG | 0o4755)", "EPERM"),
        ("os.mknod('new', stat.S_IFCHR | 0o666, os.makedev(1, 3))", "EPERM"),
        ("os.mknod('new', stat.S_IFBLK | 0o666, os.makedev(7, 0))", "EPERM"),
        ("os.mkfifo('new')", "EPERM"),
        ("os.chown('file', 5, 5)", "EPERM"),
        ("os.lchown('file', 5, 5)", "EPERM"),
        ("os.setxattr('file', 'security.capability', b'x')", "EOPNOTSUPP"),
        ("os.setxattr('file', 'user.a', b'x')", "EOPNOTSUPP"),
    ],
)
def test_more_rights_than_a_plain_file_has_are_refused(
    tmp_path: Path, refused: str, errno: str
) -> None:
    (tmp_path / "file").touch()
    done = confined(
        tmp_path,
        *python(
            "import errno\n"
            f"try: {refused}\n"
            "except OSError as error: print(errno.errorcode[error.errno])"
        ),
    )
    assert done.stdout.replace("ENOTSUP", "EOPNOTSUPP") == f"{errno}\n", done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) & 0o7000 == 0


def test_plain_files_are_made_as_usual(tmp_path: Path) -> None:
    text = "mkdir -m 1750 d; echo a >d/f; chmod 750 d/f; ln -s /etc l; ln d/f g; mv g h; rm d/f"
    done = confined(tmp_path, "sh", "-c", text)
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o1750
    assert stat.S_IMODE((tmp_path / "h").stat().st_mode) == 0o750
    assert (tmp_path / "l").is_symlink()


@pytest.mark.parametrize("within", ["command", "server"])
def test_a_write_removes_the_setuid_bit_also_for_root(tmp_path: Path, within: str) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(0o6755)
    text = f"os.write(os.open('{file}', os.O_WRONLY), b'x')"
    if within == "command":
        done = confined(tmp_path, *python(text))
    else:
        words = python((DROPPING if os.geteuid() == 0 else "") + text)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o755


def test_the_exit_status_and_the_arguments_are_passed_on(tmp_path: Path) -> None:
    done = confined(tmp_path, "sh", "-c", 'printf "%s|" "$@"; exit 7', "sh", "a b", "-x", "")
    assert (done.returncode, done.stdout) == (7, "a b|-x||")
