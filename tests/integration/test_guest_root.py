"""What tests find around them in the guests of real kernels: a root, and their repository."""

import shutil
from pathlib import Path

import pytest

from bpfmatrix.guest import busybox
from bpfmatrix.host.cache import Cache
from bpfmatrix.results.outcome import Outcome
from tests.integration.kernels import KERNELS
from tests.tool import ToolProject

pytestmark = pytest.mark.integration

# What a test may rely on in any root, as a script for any shell.
EXPECTED = """
    set -ex
    release=$(uname -r)
    [ -s /boot/config-$release ]
    [ -d /lib/modules/$release ]
    [ -d /sys/kernel/security ] && mountpoint /sys/fs/bpf && mountpoint /sys/kernel/security
    [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || grep -q cgroup2 /proc/mounts
    [ -b /dev/loop0 ]
    [ "$(id -u nobody)" = 65534 ]
    [ -n "$(hostname)" ] && [ -e /etc/resolv.conf ]
    # User namespaces, and mounts in them.
    unshare -Ur sh -c '[ "$(id -u)" = 0 ]'
    unshare -Urm sh -c 'mount -t tmpfs x /mnt && touch /mnt/file'
    # A loop device and an overlay.
    dir=$(mktemp -d)
    dd if=/dev/zero of=$dir/image bs=1M count=1 2>/dev/null
    losetup /dev/loop0 $dir/image && losetup -d /dev/loop0
    mkdir $dir/lower $dir/upper $dir/work $dir/merged
    mount -t overlay -o lowerdir=$dir/lower,upperdir=$dir/upper,workdir=$dir/work o $dir/merged
    touch $dir/merged/file && [ -e $dir/upper/file ]
"""


@pytest.mark.parametrize("rootfs", [(), ("--rootfs", "host")])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_test_finds_a_whole_system(
    project: ToolProject, kernel: str, rootfs: tuple[str, ...]
) -> None:
    project.configure([kernel])
    script = project.script("script", "mkdir -p /mnt\n" + EXPECTED)
    done, run = project.run(script, kernel=kernel, options=rootfs)
    assert run.outcome is Outcome.PASSED, done.output + run.tests[0].output


@pytest.mark.parametrize("kernel", ["5.10", "7.3"])
def test_mounts_of_one_test_are_not_those_of_the_next(project: ToolProject, kernel: str) -> None:
    project.configure([kernel])
    first = project.script("first", "mount -t tmpfs mine /mnt && touch /mnt/file")
    second = project.script("second", "! grep mine /proc/mounts && [ ! -e /mnt/file ]")
    done, run = project.run(first, second, kernel=kernel, options=("--rootfs", "host"))
    assert run.outcome is Outcome.PASSED, done.output
    assert run.leftovers == ()


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_modules_are_loaded_on_demand(project: ToolProject, kernel: str) -> None:
    project.configure([kernel], modules="all")
    script = project.script(
        "script",
        """
        set -ex
        ! grep -q -e ^veth -e ^dummy /proc/modules
        ip link add v0 type veth peer name v1  # the kernel asks for it
        modprobe dummy
        grep ^veth /proc/modules && grep ^dummy /proc/modules
        [ -d /lib/modules/$(uname -r)/kernel ]
        """,
    )
    for options in ((), ("--rootfs", "host")):
        done, run = project.run(script, kernel=kernel, options=options)
        assert run.outcome is Outcome.PASSED, done.output + run.tests[0].output


@pytest.mark.parametrize("kernel", ["5.10", "7.3"])
def test_cgroups_of_version_1(project: ToolProject, kernel: str) -> None:
    project.configure([kernel], cgroup="v1")
    script = project.script(
        "script",
        """
        set -ex
        grep -q '^cgroup2 /sys/fs/cgroup/unified' /proc/mounts
        mkdir /sys/fs/cgroup/net_cls/mine
        echo 0x10001 >/sys/fs/cgroup/net_cls/mine/net_cls.classid
        echo 0 >/sys/fs/cgroup/net_cls/mine/cgroup.procs
        grep net_cls:/mine /proc/self/cgroup
        """,
    )
    again = project.script("again", "[ ! -e /sys/fs/cgroup/net_cls/mine ]")
    done, run = project.run(script, again, kernel=kernel)
    assert run.outcome is Outcome.PASSED, done.output + run.tests[0].output


@pytest.mark.parametrize("options", [(), ("--rootfs", "host"), ("--core",)])
def test_a_test_can_open_its_output_again(project: ToolProject, options: tuple[str, ...]) -> None:
    project.configure(["6.1"])
    script = project.script(
        "script",
        """
        set -e
        echo 1; echo 2 >>/dev/stdout; echo 3 >/dev/stderr; echo 4 >&2
        echo 5 | tee /dev/stderr >/dev/null
        [ ! -f /dev/stdout ] && read -r line </dev/stdin || echo "no input"
        """,
    )
    done, run = project.run(script, options=options)
    assert run.outcome is Outcome.PASSED, done.output + run.tests[0].output
    assert run.tests[0].output == "1\n2\n3\n4\n5\nno input\n"


def test_all_output_comes_however_a_test_ends(project: ToolProject) -> None:
    project.configure(["6.1"])
    lines = 20_000
    script = project.script("script", f"seq {lines}; kill -9 $$")
    # It leaves its cgroup and its session, and holds the output open.
    left = project.script(
        "left",
        """
        echo $$ >/sys/fs/cgroup/cgroup.procs
        setsid sh -c 'trap "" TERM HUP; while :; do usleep 1000; done' &
        echo begun
        """,
    )
    done, run = project.run(script, left)
    assert run.tests[0].reason == "killed by SIGKILL", done.output
    log = (project.root / ".bpfmatrix/results/6.1/script.log").read_text()
    assert log == "".join(f"{number}\n" for number in range(1, lines + 1))
    assert run.tests[1].outcome is Outcome.PASSED
    assert run.tests[1].output == "begun\n"


def test_variables_of_a_test_do_not_reach_the_guests_init(project: ToolProject) -> None:
    own = {"out": "/1", "in": "/2", "errors": "/3", "enter": "x", "CGROUP": "/4", "IFS": "/"}
    project.configure(["6.1"], {"ebpf": None, "go": None, "binaries": ["script"], "env": own})
    project.script(
        "script", 'IFS=" "; [ "$out $enter $CGROUP" = "/1 x /4" ] && grep bpfm /proc/$$/cgroup'
    )
    done = project.invoke("run", "--kernel", "6.1")
    assert done.status == 0, done.output
    done = project.invoke("shell", "--kernel", "6.1", "--", 'echo "$out"; exit 5')
    assert (done.status, "/1" in done.output) == (5, True)


def test_a_root_whose_resolver_is_a_service_of_the_host(
    project: ToolProject, tmp_path: Path
) -> None:
    project.configure(["6.1"])
    root = tmp_path / "root"
    for folder in ("bin", "etc", "run"):
        (root / folder).mkdir(parents=True)
    shutil.copy(busybox.executable("x86_64", Cache.default()), root / "bin/sh")
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    words = ("shell", "--kernel", "6.1", "--rootfs", str(root))
    done = project.invoke(*words, "--", "/bin/sh", "-c", "[ -f /etc/resolv.conf ] && exit 7")
    assert done.status == 7, done.output
    assert (root / "etc/resolv.conf").is_symlink()
