"""Five kernels whose only source is a registry on loopback, which `kernels.push` filled.

Two machines with empty caches: the first one fetches the kernels from the mirror of this host, pins
and pushes them; the second one has no archive that can be reached.
"""

import shutil
from pathlib import Path

import yaml

from bpfmatrix.config import kernels_lock
from bpfmatrix.results.outcome import Outcome
from tests.oci.registry import Registry
from tests.tool import ToolProject

KERNELS = ("5.10", "6.1", "6.12", "6.18", "7.3")
# No server listens on the port "discard".
NO_ARCHIVE = """
Dir::Etc::main "/dev/null"; Dir::Etc::parts "/dev/null"; Dir::Etc::sourceparts "/dev/null";
Dir::Etc::sourcelist "{folder}/sources.list"; Acquire::Retries "0";
"""


def test_a_matrix_of_five_kernels_from_a_registry_alone(tmp_path: Path) -> None:
    first, second = (ToolProject(tmp_path / name) for name in ("first", "second"))
    first.configure(KERNELS, {"ebpf": None, "go": None, "binaries": ["check"]})
    first.script("check", "uname -r && test -e /sys/kernel/btf/vmlinux")
    (tmp_path / "sources.list").write_text("deb http://127.0.0.1:9/debian bookworm main\n")
    (tmp_path / "apt.conf").write_text(NO_ARCHIVE.format(folder=tmp_path))
    of_first, of_second = ({"BPFMATRIX_CACHE": str(tmp_path / name)} for name in ("a", "b"))
    of_second["APT_CONFIG"] = str(tmp_path / "apt.conf")
    with Registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/team/kernels"
        declared = yaml.safe_load((first.root / "kernels.yaml").read_text())
        (first.root / "kernels.yaml").write_text(yaml.safe_dump({**declared, "registry": name}))
        for words in (["kernels.update"], ["kernels.push", "--to", f"http://{name}"]):
            done = first.invoke(*words, env=of_first)
            assert done.status == 0, done.output
        shutil.copytree(first.root, second.root)
        done = second.invoke("matrix", env=of_second)
        assert done.status == 0, done.output
    pins = kernels_lock.read(first.root)
    for id in KERNELS:
        run = second.result(id)
        assert run.outcome is Outcome.PASSED
        assert (run.release, run.provenance["digest"]) == (pins[id].release, pins[id].digest)
        assert run.provenance["registry"] == name
        assert run.provenance["source"] == pins[id].origin
        packages = [package["sha256"] for package in run.provenance["packages"]]
        assert packages == [package.sha256 for package in pins[id].packages]
    folders = [sorted(p.name for p in (tmp_path / c).glob("kernels/*/*")) for c in ("a", "b")]
    assert folders[0] == folders[1]
    assert not (tmp_path / "b/apt").exists()
    # What is cached needs no registry either.
    done = second.invoke("matrix", env=of_second)
    assert done.status == 0, done.output
