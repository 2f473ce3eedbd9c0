"""What tests may do in guests: users, capabilities, limits, bpf(2), lockdown, BPF tokens."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from bpfmatrix.guest.programs import compile_program
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from tests.integration.kernels import KERNELS
from tests.tool import Finished, ToolProject, by_name, plain_environment

pytestmark = pytest.mark.integration

PROFILES = {
    "open": {"user": "nobody", "capabilities": [], "unprivileged_bpf": True},
    "locked": {"lockdown": "confidentiality"},
    "token": {"user": 1000, "bpf_token": True},
}
SHOWS = """
id -u; id -g; ulimit -l; ulimit -n
while read -r name value; do case $name in CapEff:) echo $value ;; esac; done </proc/self/status
echo "$HOME $USER $GREETING $*"
"""


@pytest.fixture(scope="module")
def try_bpf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("privileges") / "try-bpf"
    compile_program(Path(__file__).parent / "privileges/try-bpf.c", "x86_64", target)
    target.chmod(0o755)
    return target


def configure(
    project: ToolProject,
    kernels: Sequence[str],
    scripts: dict[str, tuple[str, dict[str, Any]]],
    files: dict[str, str] | None = None,
) -> None:
    """Write kernels.yaml with scripts as its binaries, each with its text and its settings."""
    binaries = [
        {"path": project.script(name, text), **settings}
        for name, (text, settings) in scripts.items()
    ]
    payload = {"ebpf": None, "go": None, "binaries": binaries, "files": files or {}}
    project.configure(kernels, payload)
    path = project.root / "kernels.yaml"
    data = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**data, "profiles": PROFILES}, sort_keys=False))


def outputs(run: KernelRun) -> dict[str, list[str]]:
    return {name: test.output.split("\n")[:-1] for name, test in by_name(run).items()}


@pytest.mark.parametrize(("kernel", "memlock"), [("5.10", "64"), ("6.1", "8192")])
def test_each_executable_is_started_as_kernels_yaml_says(
    project: ToolProject, kernel: str, memlock: str
) -> None:
    user = {
        "user": "nobody",
        "memlock": "128K",
        "limits": {"nofile": 77},
        "env": {"GREETING": "hello  you", "HOME": "/own"},
        "args": ["a b", "$c"],
    }
    capable = {"user": 1000, "capabilities": ["CAP_BPF", "CAP_PERFMON"], "memlock": "unlimited"}
    less = {"capabilities": ["CAP_NET_ADMIN"]}
    scripts: dict[str, tuple[str, dict[str, Any]]] = {
        "plain": (SHOWS, {}),
        "user": (SHOWS, user),
        "capable": (SHOWS, capable),
        "less": (SHOWS, less),
    }
    configure(project, [kernel], scripts)
    done = project.invoke("run", "--kernel", kernel)
    assert done.status == 0, done.output
    found = outputs(project.result(kernel))
    assert found["plain"][:4] == ["0", "0", memlock, "1024"]
    assert int(found["plain"][4], 16) & 1 << 39
    assert found["plain"][5] == "/root root  "
    assert found["user"] == [
        *("65534", "65534", "128", "77", "0000000000000000"),
        "/own nobody hello  you a b $c",
    ]
    assert found["capable"] == [
        *("1000", "1000", "unlimited", "1024", "000000c000000000"),
        "/ 1000  ",
    ]
    assert found["less"][:5] == ["0", "0", memlock, "1024", "0000000000001000"]

    # The command line wins.
    words = ("--user", "0", "--capabilities", "none", "--memlock", "default", "--run", "^user$")
    done = project.invoke("run", "--kernel", kernel, *words, "--", "more")
    assert done.status == 0, done.output
    assert outputs(project.result(kernel))["user"] == [
        *("0", "0", memlock, "77", "0000000000000000"),
        "/own root hello  you a b $c more",
    ]


def test_a_shell_has_the_user_and_the_profile_that_are_named(project: ToolProject) -> None:
    configure(project, ["6.1"], {"plain": ("true", {})})
    words = ("--user", "1000", "--memlock", "64K", "--", "id -u; ulimit -l")
    done = project.invoke("shell", "--kernel", "6.1", *words)
    assert (done.status, done.output) == (0, "1000\n64\n")
    disabled = "cat /proc/sys/kernel/unprivileged_bpf_disabled"
    done = project.invoke("shell", "--kernel", "6.1@open", "--", f"id -u; {disabled}")
    assert (done.status, done.output) == (0, "65534\n0\n")


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_bpf_allows_depends_on_user_capabilities_and_profile(
    project: ToolProject, try_bpf: Path, kernel: str
) -> None:
    calls = "exec /payload/try-bpf map load probe"
    capable = {"user": "nobody", "capabilities": ["CAP_BPF", "CAP_PERFMON"]}
    big = '[ "$(/payload/try-bpf big)" = "big: ok" ] || { echo Operation not permitted; exit 1; }'
    scripts: dict[str, tuple[str, dict[str, Any]]] = {
        "as_root": (calls, {}),
        "as_user": (calls, {"user": "nobody"}),
        "capable": (calls, capable),
        "big": (big, {}),
        "big_unlimited": (big, {"memlock": "unlimited"}),
    }
    configure(project, [kernel], scripts, {"try-bpf": str(try_bpf)})
    ids = [kernel, f"{kernel}@open", f"{kernel}@locked"]
    done = project.invoke("matrix", "--kernels", ",".join(ids))
    plain, opened, locked = map(project.result, ids)
    refused = ["map: -1", "load: -1", "probe: -1"]
    allowed = ["map: ok", "load: ok", "probe: ok"]
    assert outputs(plain)["as_root"] == allowed
    assert outputs(plain)["as_user"] == refused
    assert outputs(plain)["capable"] == allowed
    assert outputs(opened)["as_root"] == ["map: ok", "load: ok", "probe: -1"]
    assert outputs(locked)["as_root"][:2] == ["map: ok", "load: ok"]
    assert outputs(locked)["as_root"][2] in ("probe: -22", "probe: -1")
    assert outputs(locked)["as_user"] == refused
    # What a profile sets is no leftover of the tests.
    assert [run.leftovers for run in (plain, opened, locked)] == [(), (), ()]
    assert f"{kernel}@open" in done.output
    # The same machine serves all of them.
    assert plain.provenance == opened.provenance == locked.provenance

    assert by_name(plain)["big_unlimited"].outcome is Outcome.PASSED
    if kernel == "5.10":
        assert by_name(plain)["big"].outcome is Outcome.FAILED
        assert "big: before Linux 5.11, eBPF maps" in "".join(plain.hints)
        assert "set `memlock: unlimited`" in done.output
    else:
        assert by_name(plain)["big"].outcome is Outcome.PASSED
        assert plain.hints == ()


@pytest.mark.parametrize("kernel", ["6.12", "7.3"])
def test_a_user_may_use_bpf_through_a_token(
    project: ToolProject, try_bpf: Path, kernel: str
) -> None:
    calls = "id -u; exec /payload/try-bpf map token token-map token-load"
    scripts: dict[str, tuple[str, dict[str, Any]]] = {
        "all": (calls, {}),
        "root": (calls, {"user": "root"}),
    }
    configure(project, [kernel], scripts, {"try-bpf": str(try_bpf)})
    done = project.invoke("run", "--kernel", f"{kernel}@token", "--run", "all")
    assert done.status == 0, done.output
    with_token = ["token: ok", "token-map: ok", "token-load: ok"]
    assert outputs(project.result(f"{kernel}@token"))["all"] == ["1000", "map: -1", *with_token]
    words = ("--user", "root", "--run", "^root$")
    done = project.invoke("run", "--kernel", f"{kernel}@token", *words)
    assert done.status == 0, done.output
    assert outputs(project.result(f"{kernel}@token"))["root"] == ["0", "map: -1", *with_token]
    # Without the capability, even in its own namespace, nobody gets a token.
    words = ("--capabilities", "CAP_NET_ADMIN", "--run", "all")
    done = project.invoke("run", "--kernel", f"{kernel}@token", *words)
    assert outputs(project.result(f"{kernel}@token"))["all"][:3] == ["1000", "map: -1", "token: -1"]


def test_what_a_kernel_can_not_do_is_one_sentence(project: ToolProject) -> None:
    configure(project, ["6.1"], {"plain": ("true", {"user": "nobdy"})})
    done = project.invoke("run", "--kernel", "6.1@token")
    assert done.status == 1
    assert "has no BPF tokens, which came with 6.9" in done.output
    done = project.invoke("run", "--kernel", "6.1")
    assert done.status == 1
    assert "nobdy: no such user in /etc/passwd of the root of the test" in done.output


def nox(project: ToolProject, *words: str) -> Finished:
    done = subprocess.run(
        [sys.executable, "-m", "nox", *words],
        cwd=project.root,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1200,
    )
    return Finished(done.returncode, done.stdout, 0)


def test_nox_has_a_session_for_each_profile_that_is_named(project: ToolProject) -> None:
    configure(project, ["6.1"], {"plain": ("test $(id -u) = 65534", {})})
    assert "kernel-6.1@open" not in nox(project, "-l").output
    done = nox(project, "-s", "kernel-6.1@open")
    assert done.status == 0, done.output
    assert project.result("6.1@open").outcome is Outcome.PASSED
    done = nox(project, "-s", "kernel-6.1", "--", "--profile", "open")
    assert done.status == 0, done.output
    path = project.root / "kernels.yaml"
    path.write_text(path.read_text() + "matrix: ['6.1', '6.1@open']\n")
    assert "- kernel-6.1@open " in nox(project, "-l").output
    # A cached result is that of the profile.
    done = nox(project, "-s", "matrix", "--", "--cached")
    assert project.result("6.1").outcome is Outcome.FAILED
    assert project.result("6.1@open").cached


def test_a_kernel_that_was_booted_otherwise_is_changed_or_refuses(
    project: ToolProject, try_bpf: Path
) -> None:
    calls = "exec /payload/try-bpf map"
    scripts: dict[str, tuple[str, dict[str, Any]]] = {
        "as_user": (calls, {"user": "nobody"}),
        "slow": ("sleep 1000", {"limits": {"time": "1s"}}),
    }
    configure(project, ["6.1"], scripts, {"try-bpf": str(try_bpf)})
    path = project.root / "kernels.yaml"
    written = yaml.safe_load(path.read_text())

    def run(kernel_arg: str, *words: str, **payload: Any) -> Finished:
        data = {**written, "payload": {**written["payload"], **payload}}
        data["defaults"] = {"kernel_args": [kernel_arg]}
        path.write_text(yaml.safe_dump(data))
        return project.invoke("run", "--kernel", "6.1", *words)

    users = "sysctl.kernel.unprivileged_bpf_disabled="
    run(f"{users}0")
    assert outputs(project.result())["as_user"] == ["map: ok"]
    assert by_name(project.result())["slow"].outcome is Outcome.TIMEOUT
    assert "(limits.time" in by_name(project.result())["slow"].reason
    done = run(f"{users}0", "--run", "as_user", unprivileged_bpf=False)
    assert outputs(project.result())["as_user"] == ["map: -1"]
    # 1 can't be undone.
    done = run(f"{users}1", unprivileged_bpf=True)
    assert project.result().outcome is Outcome.ERROR
    assert "can't set kernel.unprivileged_bpf_disabled to 0" in done.output
    done = run("lockdown=confidentiality", lockdown="integrity")
    assert project.result().outcome is Outcome.ERROR
    assert "the guest's kernel is locked down further: none integrity [confid" in done.output
