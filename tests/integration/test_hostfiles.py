"""The host's files in the guests of real kernels."""

import contextlib
import json
import os
import shutil
import signal
import stat
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from bpfmatrix.cli.run import run_chosen
from bpfmatrix.cli.run_choice import TESTS
from bpfmatrix.config.project import Project
from bpfmatrix.guest import busybox
from bpfmatrix.host.cache import Cache
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session import host_files
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.virtiofs import shares
from tests.integration.kernels import KERNELS
from tests.tool import ToolProject, by_name, wait_until

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("kernel", KERNELS)
def test_tests_use_the_hosts_files_and_leave_them_alone(
    project: ToolProject, kernel: str, tmp_path: Path
) -> None:
    project.configure([kernel])
    kept, shared, given = (tmp_path / name for name in ("kept", "shared", "given"))
    for folder in (kept, shared, given):
        folder.mkdir()
        (folder / "file").write_text("as it was")
    # /usr/bin comes first, since a user may have slow wrapper scripts in other folders of the PATH.
    script = project.script(
        "uses-python",
        f"""
        set -ex
        PATH=/usr/bin:$PATH
        # A dynamically linked program, and the working directory.
        [ "$(python3 -c 'import json; print(json.dumps([1]))')" = "[1]" ]
        [ "$PWD" = {project.root} ]
        [ -z "$SECRET_TOKEN" ]
        # In the guest, everything below the root can be written.
        echo other >{kept}/file
        [ "$(cat {kept}/file)" = other ]
        touch /usr/bin/new-in-the-guest
        # A test that leaves its root finds the host's files again, but not the host's kernel.
        cd /proc/1/root
        [ -r host/below/etc/passwd ]
        ! ls host/below/proc || exit 1
        ! cat host/below/proc/{os.getpid()}/environ || exit 1
        ! cat host/below/sys/kernel/uevent_seqnum || exit 1
        cd -
        # The read-only share.
        [ "$(cat {given}/file)" = "as it was" ]
        ! touch {given}/new || exit 1
        ! rm {given}/file || exit 1
        # The writable share.
        mkdir -m 750 {shared}/folder
        echo "from $(uname -r)" >{shared}/folder/first
        mv {shared}/folder/first {shared}/folder/second
        ln -s second {shared}/folder/link
        rm {shared}/file
        # File systems of the guest itself.
        [ -d /sys/fs/bpf ] && [ -d /sys/kernel/tracing/events ] && [ -d /proc/$$ ]
        [ -x /payload/uses-python ]
        """,
    )
    words = ("--rootfs", "host", "--share", f"{shared}:rw", "--share", str(given))
    os.environ["SECRET_TOKEN"] = "hunter2"
    try:
        done, run = project.run(script, kernel=kernel, options=words)
    finally:
        del os.environ["SECRET_TOKEN"]
    assert run.outcome is Outcome.PASSED, done.output
    assert (kept / "file").read_text() == "as it was"
    assert not Path("/usr/bin/new-in-the-guest").exists()
    assert [path.name for path in given.iterdir()] == ["file"]
    assert [path.name for path in shared.iterdir()] == ["folder"]
    made = shared / "folder"
    assert (made / "second").read_text() == f"from {run.release}\n"
    assert (made / "link").readlink() == Path("second")
    for path in (made, made / "second"):
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())
    assert made.stat().st_mode & 0o777 == 0o750


def test_a_share_is_seen_without_the_hosts_root(project: ToolProject, tmp_path: Path) -> None:
    shared = tmp_path / "a folder"
    shared.mkdir()
    # Booted, and restored twice: each guest sees the current content.
    for number, options in enumerate([["--cold"], [], []]):
        (shared / "given").write_text(f"{number}\n")
        project.script("script", f'cat "{shared}/given" >"{shared}/file"; ! [ -e /usr/lib ]')
        done, run = project.run("script", options=("--share", f"{shared}:rw", *options))
        assert run.outcome is Outcome.PASSED, done.output
        assert run.start == ("cold" if options else "warm")
        assert (shared / "file").read_text() == f"{number}\n"
        assert servers_of(shared) == []


def test_the_server_of_a_folder_ends_with_its_machine(project: ToolProject, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    script = project.script("script", f"touch {shared}/begun; sleep 100")
    words = ("run", "--kernel", "6.1", "--binary", script, "--share", f"{shared}:rw")
    with project.start(*words) as process:
        wait_until((shared / "begun").exists, "the test began")
        assert len(servers_of(shared)) == 1
        process.kill()
    wait_until(lambda: not servers_of(shared), "the server ended")


def test_a_folder_that_is_no_longer_served_ends_the_run(
    project: ToolProject, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    script = project.script(
        "script", f"touch {shared}/begun; while sleep 0.1; do ls {shared}; done"
    )
    words = ("run", "--kernel", "6.1", "--binary", script, "--share", f"{shared}:rw")
    process = project.start(*words)
    wait_until((shared / "begun").exists, "the test began")
    [server] = servers_of(shared)
    os.kill(server, signal.SIGKILL)
    done = project.finish(process)
    assert done.status == 1
    assert f"{shared} is no longer served to the guest: exit status -9" in done.output
    assert done.seconds < 60  # it does not wait for the limit of the test
    assert project.result().outcome is Outcome.ERROR


def fill(folder: str) -> str:
    """Return shell commands that fill a file system, by fallocate, which is faster than writing."""
    size = f"$(($(stat -f -c %a {folder}) * $(stat -f -c %S {folder})))"
    return f"fallocate -l {size} {folder}/large; echo more >{folder}/more"


def servers_of(folder: Path) -> list[int]:
    """Return the process ids of the servers of a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[-2:] == [bytes(folder), b""] and b"bpfmatrix.virtiofs.server" in words:
                found.append(int(process.name))
    return found


def test_a_full_tmp_is_not_emptied_where_a_share_is_below(project: ToolProject) -> None:
    # The share is mounted at its own path, below /tmp, where the guest has a tmpfs.
    with TemporaryDirectory(dir="/tmp") as folder:
        kept = Path(folder) / "kept"
        kept.write_text("of the host")
        first = project.script("first", f"cat {kept}; {fill('/tmp')}")
        second = project.script("second", f'[ "$(cat {kept})" = "of the host" ]')
        done, run = project.run(first, second, options=("--share", f"{folder}:rw"))
        assert "/tmp of the guest was full" in done.output
        assert by_name(run)["second"].outcome is Outcome.PASSED, done.output
        assert kept.read_text() == "of the host"


def test_the_root_may_be_any_folder(project: ToolProject, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy2(busybox.executable("x86_64", Cache.default()), tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    (tree / "only-here").write_text("yes")
    # The script's folder is there, since the script itself is.
    project.script(
        "script",
        f'set -ex; [ "$(cat /only-here)" = yes ]; [ "$PWD" = {project.root} ]; [ -x script ]; '
        "echo no >/only-here; ! ls /usr",
    )
    done, run = project.run("script", options=("--rootfs", str(tree)))
    assert run.outcome is Outcome.PASSED, done.output
    assert (tree / "only-here").read_text() == "yes"
    # What the root lacks is reported before anything boots.
    done = project.invoke(*("run", "--kernel", "6.1", "--binary", "/bin/ls", "--rootfs", str(tree)))
    assert done.status == 1
    assert f"/bin/ls needs /lib64/ld-linux-x86-64.so.2, which {tree} does not have" in done.output


def test_a_shell_has_the_hosts_programs_and_not_busyboxs(project: ToolProject) -> None:
    words = ("shell", "--kernel", "6.1", "--rootfs", "host", "--")
    done = project.invoke(*words, "readlink -f /proc/$$/exe; pwd; exit 7")
    shell = Path("/bin/sh").resolve()
    assert done.output.splitlines() == [str(shell), str(project.root)]
    assert done.status == 7
    done = project.invoke(*words, "no-such-program", "word")
    assert (done.output, done.status) == ("no-such-program: not found\n", 127)


def test_a_dynamically_linked_executable_runs_with_the_hosts_root(project: ToolProject) -> None:
    options = ("--rootfs", "host", "--", "-c", "import os; print(os.uname().release)")
    python = str(Path(sys.executable).resolve())
    done, run = project.run(python, options=options)
    assert run.outcome is Outcome.PASSED, done.output
    [test] = by_name(run).values()
    assert (project.root / run.logs[0]).read_text() == f"{run.release}\n", test


def configure_9p(project: ToolProject) -> None:
    """Write a kernels.yaml with the kernel 6.1-full, which has 9p."""
    project.configure()
    data = yaml.safe_load((project.root / "kernels.yaml").read_text())
    source = {"apt": {"suite": "bookworm-security", "package": "linux-image-amd64"}}
    data["kernels"] = {"6.1-full": {"source": source}}
    (project.root / "kernels.yaml").write_text(yaml.safe_dump(data))


def test_a_kernel_that_has_only_9p_sees_the_hosts_files(
    project: ToolProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every Debian kernel that has 9p (not the cloud kernels) also has virtiofs.
    monkeypatch.setattr(host_files, "_MODULES", {"9p": host_files._MODULES["9p"]})
    configure_9p(project)
    shared, given = tmp_path / "shared", tmp_path / "given"
    shared.mkdir()
    given.mkdir()
    script = project.root / project.script(
        "script",
        f"""
        set -ex
        [ "$(/usr/bin/python3 -c 'import json; print(json.dumps([1]))')" = "[1]" ]
        touch /usr/bin/new-in-the-guest
        ! touch {given}/new || exit 1
        grep -q 'host1 .*9p' /proc/mounts
        echo here >{shared}/file
        """,
    )
    files = shares.parse_options("host", [str(given), f"{shared}:rw"])
    options = RunOptions(binaries=(script,), files=files)
    [run] = run_chosen(Project.load(project.root), ["6.1-full"], TESTS, options).runs
    assert run.outcome is Outcome.PASSED, (project.root / run.logs[0]).read_text()
    assert not Path("/usr/bin/new-in-the-guest").exists()
    assert list(given.iterdir()) == []
    assert (shared / "file").read_text() == "here\n"
    assert (shared / "file").stat().st_uid == os.getuid()


# A guest's program that tries to leave more than plain files in the folder `sys.argv[1]`, and
# writes into `tried.json` what came of each attempt.
INTRUDER = """
import errno, json, os, stat, sys

os.chdir(sys.argv[1])
os.umask(0)
tried = {}

def attempt(name, call, *arguments, **more):
    try:
        call(*arguments, **more)
        tried[name] = "done"
    except OSError as error:
        tried[name] = errno.errorcode[error.errno]

def write(path):
    with open(path, "r+b", buffering=0) as file:
        file.write(b"other")

def as_another_user(call, *arguments):
    os.setegid(5)
    os.seteuid(5)
    try:
        call(*arguments)
    finally:
        os.seteuid(0)
        os.setegid(0)

create = os.O_CREAT | os.O_EXCL | os.O_WRONLY
for bits in (0o4000, 0o2000, 0o6000):
    mode = bits | 0o755
    attempt(f"chmod {mode:o}", os.chmod, "mine", mode)
    attempt(f"fchmod {mode:o}", os.fchmod, os.open("mine", os.O_RDWR), mode)
    attempt(f"chmod folder {mode:o}", os.chmod, "folder", mode)
    attempt(f"chmod old {mode:o}", os.chmod, "setuid", bits | 0o777)
    attempt(f"create {mode:o}", os.open, f"created-{mode:o}", create, mode)
    attempt(f"mknod {mode:o}", os.mknod, f"node-{mode:o}", stat.S_IFREG | mode)
    attempt(f"mkdir {mode:o}", os.mkdir, f"made-{mode:o}", mode)
attempt("character device", os.mknod, "chr", stat.S_IFCHR | 0o666, os.makedev(1, 3))
attempt("block device", os.mknod, "blk", stat.S_IFBLK | 0o666, os.makedev(254, 0))
attempt("fifo", os.mkfifo, "fifo")
attempt("chown", os.chown, "mine", 5, -1)
attempt("chgrp", os.chown, "mine", -1, 5)
attempt("lchown", os.lchown, "link", 5, 5)
# The format of a file capability: VFS_CAP_REVISION_2, and CAP_SYS_ADMIN.
capability = bytes.fromhex("0100000200002000000000000000000000000000")
attempt("capability", os.setxattr, "mine", "security.capability", capability)
attempt("trusted", os.setxattr, "mine", "trusted.a", b"a")
attempt("attribute", os.setxattr, "mine", "user.a", b"a")
attempt("write setuid", write, "setuid")
attempt("truncate setuid", os.truncate, "setuid-too", 2)
attempt("write as another user", as_another_user, os.open, "others", create, 0o644)
attempt("link outside", os.link, "/etc/passwd", "passwd")
attempt("rename to outside", os.rename, "mine", "/host-tmp")
attempt("symlink", os.symlink, "../secret", "outside")
attempt("through the symlink", open, "outside", "w")
with open("tried.json", "w") as file:
    json.dump(tried, file)
"""


def intrude(shared: Path) -> list[str]:
    """Fill a folder of the host for INTRUDER; return the arguments of its interpreter."""
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "folder").mkdir()
    for name, mode in {"mine": 0o644, "setuid": 0o6755, "setuid-too": 0o4755}.items():
        (shared / name).write_text("content")
        (shared / name).chmod(mode)
    (shared / "link").symlink_to("mine")
    (shared / "intruder.py").write_text(INTRUDER)
    return [str(shared / "intruder.py"), str(shared)]


def check_for_intruders(shared: Path) -> None:
    """Check what INTRUDER could do, and that it left only plain files of this user."""
    tried = json.loads((shared / "tried.json").read_text())
    # The guest's own kernel takes these bits from the mode of mkdir.
    harmless = [name for name in tried if name.startswith("mkdir ")]
    harmless += ["write setuid", "truncate setuid", "write as another user", "symlink"]
    for name in harmless:
        assert tried.pop(name) == "done", name
    for name in ("link outside", "rename to outside"):
        assert tried.pop(name) == "EXDEV", name
    for name in ("capability", "trusted", "attribute"):
        assert tried.pop(name) in ("EOPNOTSUPP", "ENOTSUP"), name
    # It leads to a folder of the guest, where it opened a file of the guest.
    tried.pop("through the symlink")
    assert tried
    assert set(tried.values()) == {"EPERM"}, tried
    for path in shared.rglob("*"):
        found = path.lstat()
        assert stat.S_IFMT(found.st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK), path
        assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID), path
        assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid()), path
        assert os.listxattr(path, follow_symlinks=False) == [], path
    assert (shared / "setuid").read_text() == "othernt"
    assert not (shared.parent / "secret").exists()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_guest_leaves_only_plain_files_of_the_user(
    project: ToolProject, tmp_path: Path, kernel: str
) -> None:
    shared = tmp_path / "shared"
    words = intrude(shared)
    project.configure([kernel])
    python = str(Path(sys.executable).resolve())
    options = ("--rootfs", "host", "--share", f"{shared}:rw", "--", *words)
    done, run = project.run(python, kernel=kernel, options=options)
    assert run.outcome is Outcome.PASSED, done.output
    check_for_intruders(shared)


def test_a_guest_leaves_only_plain_files_of_the_user_over_9p(
    project: ToolProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_files, "_MODULES", {"9p": host_files._MODULES["9p"]})
    configure_9p(project)
    shared = tmp_path / "shared"
    words = intrude(shared)
    files = shares.parse_options("host", [f"{shared}:rw"])
    python = Path(sys.executable).resolve()
    options = RunOptions(binaries=(python,), files=files, arguments=tuple(words))
    [run] = run_chosen(Project.load(project.root), ["6.1-full"], TESTS, options).runs
    assert run.outcome is Outcome.PASSED, (project.root / run.logs[0]).read_text()
    check_for_intruders(shared)


def test_a_folder_that_gives_its_files_to_its_group_stays_one(
    project: ToolProject, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2755)
    script = project.script("script", f"chmod 2750 {shared} && mkdir {shared}/below")
    done, run = project.run(script, options=("--share", f"{shared}:rw"))
    assert run.outcome is Outcome.PASSED, done.output
    assert stat.S_IMODE(shared.stat().st_mode) == 0o2750
    assert stat.S_IMODE((shared / "below").stat().st_mode) & stat.S_ISGID


def test_a_root_that_is_full_is_named(project: ToolProject) -> None:
    project.script("script", fill("/usr"))
    done, run = project.run("script", options=("--rootfs", "host"))
    assert run.outcome is Outcome.FAILED
    assert "/ of the guest was full" in done.output


def test_a_kernel_of_another_architecture_is_refused_before_it_boots(project: ToolProject) -> None:
    project.configure(["6.1-arm64"])
    text = (project.root / "kernels.yaml").read_text()
    (project.root / "kernels.yaml").write_text(
        text.replace("source:", "arch: aarch64\n    source:")
    )
    project.script("script", "true")
    done, run = project.run("script", kernel="6.1-arm64", options=("--rootfs", "host"))
    assert run.outcome is Outcome.ERROR
    assert "--rootfs host: the host's programs are for" in done.output
    assert "boot" not in done.output
