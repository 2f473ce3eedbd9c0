"""`nox -s kernel-6.1` on hosts that are not Debian, from the mirror of the host that runs this.

Each has an empty cache and its own apt, or none: the mirror is named as its user would name it. The
packages of such a host are not tested here: see tests/test_bootstrap.py.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from bpfmatrix.kernels.sources import apt_sources
from tests.host_tools import path_without
from tests.tool import Finished, ToolProject, plain_environment

pytestmark = pytest.mark.integration

SUITE = "bookworm-security"


@pytest.fixture
def mirror() -> dict[str, object]:
    """The mirror of this machine's apt, as `archives` of kernels.yaml names it."""
    settings = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    found = {
        "debian": apt_sources.find("bookworm").uri,
        "debian-security": apt_sources.find(SUITE).uri,
        # A mirror that is left behind can't be repaired by a test.
        "check_dates": 'Acquire::Check-Valid-Until "false";' not in settings.stdout,
    }
    assert not str(found["debian"]).startswith("mirror"), "apt alone knows what such a URI means"
    return found


def host(tmp_path: Path, sources: str = "") -> dict[str, str]:
    """Return the environment of a host whose apt has these sources, and whose user has nothing."""
    (tmp_path / "sources.list").write_text(sources)
    (tmp_path / "apt.conf").write_text(
        'Dir::Etc::sourceparts "/dev/null";\nDir::State::lists "/dev/null";\n'
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\n'
    )
    return {
        "APT_CONFIG": str(tmp_path / "apt.conf"),
        "BPFMATRIX_CACHE": str(tmp_path / "cache"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }


def nox(project: ToolProject, env: Mapping[str, str]) -> Finished:
    """Run `nox -s kernel-6.1`, which fetches the kernel, boots it, and runs one executable."""
    done = subprocess.run(
        [sys.executable, "-m", "nox", "-s", "kernel-6.1", "--", "--cold"],
        cwd=project.root,
        env={**plain_environment(), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    return Finished(done.returncode, done.stdout, 0)


@pytest.fixture
def tested(project: ToolProject) -> ToolProject:
    name = project.script("passes", "true")
    project.configure(payload={"ebpf": None, "go": None, "binaries": [{"path": name}]})
    return project


def test_an_apt_without_any_source(
    tested: ToolProject, mirror: dict[str, object], tmp_path: Path
) -> None:
    env = host(tmp_path) | {
        "BPFMATRIX_DEBIAN_ARCHIVE": str(mirror["debian"]),
        "BPFMATRIX_DEBIAN_SECURITY_ARCHIVE": str(mirror["debian-security"]),
    }
    done = nox(tested, env)
    assert done.status == 0, done.output
    assert f"apt {SUITE}" in done.output
    assert tested.result().outcome.value == "passed"


def test_an_apt_with_ubuntus_sources(
    tested: ToolProject, mirror: dict[str, object], tmp_path: Path
) -> None:
    """The mirror is set once, by the command; nobody listens where Ubuntu's archive would be."""
    env = host(
        tmp_path,
        "".join(
            f"deb http://127.0.0.1:9/ubuntu noble{pocket} main restricted universe\n"
            for pocket in ("", "-updates", "-security")
        ),
    )
    words = ["kernels.archive", str(mirror["debian"]), "--security", str(mirror["debian-security"])]
    said = tested.invoke(*words, env=env)
    assert said.status == 0, said.output
    assert f"{mirror['debian']} is the mirror of Debian from now on ({tmp_path}" in said.output
    assert f"{mirror['debian-security']}  ({tmp_path}" in tested.invoke(words[0], env=env).output
    done = nox(tested, env)
    assert done.status == 0, done.output
    assert tested.result().outcome.value == "passed"


def test_a_host_without_apt(tested: ToolProject, mirror: dict[str, object], tmp_path: Path) -> None:
    file = tested.root / "kernels.yaml"
    data = yaml.safe_load(file.read_text()) | {"archives": mirror}
    file.write_text(yaml.safe_dump(data))
    without = path_without(tmp_path / "programs", "apt", "dpkg", "gpg")
    env = host(tmp_path) | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{without}"}
    before = tested.invoke("doctor", env=env).output
    assert re.search(rf"^ok +kernel 6\.1 +not fetched yet, apt {SUITE} answers", before, re.M)
    done = nox(tested, env)
    assert done.status == 0, done.output
    assert tested.result().outcome.value == "passed"
    # Now nobody is asked any more.
    data["archives"] = {"debian": "http://127.0.0.1:9/debian"}
    file.write_text(yaml.safe_dump(data))
    after = tested.invoke("doctor", env=env).output
    assert re.search(r"^ok +kernel 6\.1 +cached, 6\.1\.", after, re.M)


def test_doctor_is_not_ready_where_the_first_command_would_fail(
    tested: ToolProject, tmp_path: Path
) -> None:
    env = host(tmp_path) | {"BPFMATRIX_DEBIAN_ARCHIVE": "http://127.0.0.1:9/debian"}
    done = tested.invoke("doctor", env=env)
    assert done.status == 1
    said = rf"^missing +kernel 6\.1 +not fetched yet: {SUITE} can't be reached"
    assert re.search(said, done.output, re.M)
    assert not re.search("^ready", done.output, re.M)
    failed = nox(tested, env)
    assert failed.status == 1
    assert f"6.1: {SUITE} can't be reached and no kernel of this series is cached." in failed.output
    assert "Traceback" not in failed.output


def test_a_mirror_of_something_else_is_not_kept(tested: ToolProject, tmp_path: Path) -> None:
    env = host(tmp_path)
    for words, status, sentence in (
        (["mirror.example.org"], 2, "'mirror.example.org' is not the URL of an archive"),
        (["http://127.0.0.1:9/debian"], 1, f"is not used: {SUITE} can't be reached"),
        (["http://127.0.0.1:9/x"], 2, "but not Debian's security archive"),
        (["file:///a", "file:///b"], 2, "kernels.archive takes one URL, not 2"),
        (["--old-state"], 2, "--security and --old-state are about a mirror"),
    ):
        done = tested.invoke("kernels.archive", *words, env=env)
        assert sentence in done.output
        assert done.status == status
        assert "Traceback" not in done.output
    assert not (tmp_path / "config").exists()
