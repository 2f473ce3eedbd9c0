"""`--core`: the core files of processes that died by a signal, on the host."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from bpfmatrix.results.outcome import Outcome
from tests.goproject import GoModule
from tests.tool import ToolProject, by_name

pytestmark = pytest.mark.integration


def note(core: Path, kind: str) -> Any:
    """Return a note of a core file, after a check that no segment is cut off."""
    with core.open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_type"] == "ET_CORE"
        segments = list(elf.iter_segments())
        assert core.stat().st_size == max(s["p_offset"] + s["p_filesz"] for s in segments)
        notes = [n for s in segments if isinstance(s, NoteSegment) for n in s.iter_notes()]
    return next(n["n_desc"] for n in notes if n["n_type"] == kind)


@pytest.mark.parametrize("kernel", ["5.10", "7.3"])
def test_each_process_that_dies_leaves_a_core_file(project: ToolProject, kernel: str) -> None:
    project.configure(kernels=[kernel])
    fine = project.script("fine", "true")
    dies = project.script(
        "dies",
        """
        sleep 60 &
        until grep -q sleep /proc/$!/cmdline; do :; done
        kill -SEGV $!
        wait $!
        cd /tmp
        kill -ABRT $$
        """,
    )
    done, run = project.run(fine, dies, kernel=kernel, options=["--core"])
    assert by_name(run)["fine"].outcome is Outcome.PASSED
    assert by_name(run)["dies"].reason == "killed by SIGABRT"
    assert len(run.cores) == 2, done.output
    cores = [project.root / name for name in run.cores]
    commands = [note(core, "NT_PRPSINFO")["pr_psargs"].rstrip(b"\0 ") for core in cores]
    assert commands[0] == b"sleep 60"
    assert commands[1].endswith(b"/payload/dies")
    assert (cores[0].parent / "dies").read_bytes() == (project.root / "dies").read_bytes()
    for core in run.cores:
        assert f"core file     {core}" in done.output


def test_gdb_reads_the_core_file_of_a_go_test(project: ToolProject, go_module: GoModule) -> None:
    project.configure(payload={"ebpf": None, "go": None, "env": {"SAMPLE": "panic"}})
    options = ["--core", "--run", "TestPanics"]
    done, run = project.run(str(go_module.binary()), options=options)
    assert by_name(run)["TestPanics/inner"].outcome is Outcome.FAILED
    assert len(run.cores) == 1, done.output
    core = project.root / run.cores[0]
    binary = core.parent / "sample.test"
    words = ["gdb", "-batch", "-nx", "-ex", "bt", str(binary), str(core)]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "SIGABRT" in shown
    assert "sample.TestPanics.func1" in shown
    # The file has holes where the memory is zero.
    assert core.stat().st_blocks * 512 < core.stat().st_size / 2


def test_without_the_option_there_is_no_core_file(project: ToolProject) -> None:
    script = project.script("dies", "cat /proc/sys/kernel/core_pattern; kill -ABRT $$")
    _, run = project.run(script)
    assert run.outcome is Outcome.FAILED
    assert run.cores == ()
    assert run.tests[0].output.startswith("core\n")
    assert list((project.root / ".bpfmatrix/results/6.1").glob("*core*")) == []
