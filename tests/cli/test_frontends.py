"""nox and invoke as a user runs them, in subprocesses, as far as no machine is needed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from tests.tool import Finished, ToolProject, plain_environment, wait_until


def nox(project: ToolProject, *words: str) -> Finished:
    done = subprocess.run(
        [sys.executable, "-m", "nox", *words],
        cwd=project.root,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    return Finished(done.returncode, done.stdout, 0)


@pytest.fixture
def three(project: ToolProject) -> ToolProject:
    project.configure(["5.10", "6.1", "7.3"])
    return project


def test_nox_lists_the_kernels_with_their_sources(three: ToolProject) -> None:
    listed = nox(three, "-l").output
    tags = "[kernels,x86_64,amd64]"
    assert f"kernel-5.10 {tags} -> " in listed
    assert f"kernel-6.1 {tags} -> Load and test the eBPF on 6.1 (apt bookworm-security" in listed
    assert "matrix [matrix] -> " in listed


@pytest.mark.parametrize(
    ("words", "sessions"),
    [
        (("-k", "5.10 or 7 and not arm64"), ["kernel-5.10", "kernel-7.3"]),
        (("-k", "pre-push or 6.1"), ["kernel-6.1", "pre-push"]),
        (("-t", "amd64"), ["kernel-5.10", "kernel-6.1", "kernel-7.3"]),
        (("-t", "verify"), ["verify"]),
    ],
)
def test_nox_chooses_sessions_by_ids_and_by_tags(
    three: ToolProject, words: tuple[str, ...], sessions: list[str]
) -> None:
    lines = nox(three, "-l", *words).output.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("* ")] == sessions


def test_nox_suggests_the_kernel_that_was_meant(three: ToolProject) -> None:
    done = nox(three, "-s", "kernel-5.1")
    assert done.status == 2
    assert "error: no kernel '5.1' in kernels.yaml (did you mean \"5.10\"?)" in done.output
    assert "It has: 5.10, 6.1, 7.3." in done.output
    assert "Traceback" not in done.output


def test_a_noxfile_can_have_a_session_of_its_own_named_kernel_something(three: ToolProject) -> None:
    with (three.root / "noxfile.py").open("a") as noxfile:
        noxfile.write(
            "import nox\n"
            "@nox.session(name='kernel-own', venv_backend='none', default=False)\n"
            "def own(session):\n"
            "    session.log('it ran')\n"
        )
    done = nox(three, "-s", "kernel-own")
    assert done.status == 0, done.output
    assert "it ran" in done.output


def test_invoke_lists_tasks_in_the_order_in_which_people_meet_them(three: ToolProject) -> None:
    listed = three.invoke("-l").output
    places = [listed.index(f"  {name} ") for name in ("doctor", "run", "matrix", "kernels.list")]
    assert places == sorted(places)


@pytest.mark.parametrize("task", [("run",), ("watch",), ("initramfs",), ("kernels.fetch",)])
def test_invoke_suggests_the_kernel_that_was_meant(
    three: ToolProject, task: tuple[str, ...]
) -> None:
    done = three.invoke(*task, "--kernel", "5.1")
    assert done.status == 2, done.output
    assert "no kernel '5.1' in kernels.yaml (did you mean \"5.10\"?)" in done.output
    assert "Traceback" not in done.output


def test_invoke_matrix_names_the_pattern_that_matches_no_kernel(three: ToolProject) -> None:
    done = three.invoke("matrix", "--kernels", "5.1")
    assert done.status == 2
    assert "--kernels 5.1: no such kernel" in done.output


@pytest.mark.parametrize("program", ["nox", "invoke"])
def test_both_report_an_error_in_kernels_yaml(three: ToolProject, program: str) -> None:
    path = three.root / "kernels.yaml"
    path.write_text(path.read_text().replace("payload:", "payloda:"))
    done = nox(three, "-l") if program == "nox" else three.invoke("kernels.list")
    assert done.status == 2
    assert 'kernels.yaml: payloda: unknown key (did you mean "payload"?)' in done.output
    assert "Traceback" not in done.output


def test_invoke_finds_the_project_from_a_folder_below_it(three: ToolProject) -> None:
    below = three.root / "some/where"
    below.mkdir(parents=True)
    done = subprocess.run(
        three.command("-r", str(three.root), "kernels.list", "--json"),
        cwd=below,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"kernel": "7.3"' in done.stdout


def test_a_run_without_tests_is_refused(three: ToolProject) -> None:
    done = three.invoke("run", "--kernel", "6.1")
    assert done.status == 2
    assert (
        "there is nothing to run: kernels.yaml declares no tests and no eBPF objects" in done.output
    )


def test_a_cache_that_can_not_be_written_causes_no_traceback(
    three: ToolProject, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    env = {"BPFMATRIX_CACHE": str(tmp_path / "file/cache")}
    script = three.script("x", "true")
    done = three.invoke("run", "--kernel", "6.1", "--binary", script, env=env)
    assert done.status == 1
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("text.o",), "text.o: no ELF file"),
        (("text.o", "none.o"), "none.o: no such file"),
        (("--kernel", "6.1", "none.o", "text.o"), "none.o: no such file"),
        ((), "there is no eBPF object to load"),
        (("text.o", "--kernel", "5.1"), "no kernel '5.1' in kernels.yaml"),
        (("text.o", "--kernel", "6.1", "--kernels", "6.1"), "either by --kernel or by --kernels"),
        (("text.o", "--annotate", "p"), "--annotate is for one kernel"),
        (("text.o", "--against", "none.json"), "--against none.json: No such file"),
        (("text.o", "--against", "text.o"), "--against text.o: "),
        (("text.o", "--max-insns", "120%"), "--max-insns 120%: expected a share"),
        (("text.o", "--threshold", "much"), "--threshold much: expected a share"),
        (("text.o", "--set", "x"), "--set x: expected NAME=VALUE"),
        (("text.o", "--limit", "soon"), "--limit soon: expected a duration"),
        (("text.o", "--filter", "insn>3"), "--filter insn>3: there is no column"),
        (("text.o", "--sort", "dratuion"), '--sort dratuion: there is no column "dratuion"'),
        (("text.o", "--top", "-3"), "--top -3: expected a number of rows"),
        (("text.o", "--csv", "-", "--json"), "--json and --csv - can't both be printed"),
        (("text.o", "--filter", "none*/"), "--filter leaves no object to load"),
        (("text.o", "--replay", "text.o"), "--replay and --objects don't go together"),
        (("--replay", "none.json"), "--replay none.json: no such file"),
        (("--replay", "text.o"), "--replay text.o: "),
    ],
)
def test_verify_refuses_wrong_options(
    three: ToolProject, words: tuple[str, ...], sentence: str
) -> None:
    (three.root / "text.o").write_text("int x;")
    done = three.invoke("verify", *words)
    assert done.status == 2, done.output
    assert sentence in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("words", [("run", "-k", "6.1", "-r", "X"), ("logs", "-k", "6.1", "-f")])
def test_a_letter_of_invokes_own_is_refused_after_a_task(
    three: ToolProject, words: tuple[str, ...]
) -> None:
    done = three.invoke(*words)
    assert done.status == 1
    assert f"{words[3]} is not an option of {words[0]}, but of invoke itself" in done.output
    assert f"invoke --help {words[0]}" in done.output


def test_a_task_takes_words_and_invoke_further_tasks(three: ToolProject) -> None:
    done = three.invoke("report", "none.json", "kernels.list")
    assert "none.json" in done.output
    listed = three.invoke("kernels.list", "--json", "kernels.list")
    assert listed.output.count('"kernel": "7.3"') == 1
    assert "newest known" in listed.output


def test_a_watched_run_that_can_not_begin_has_no_earlier_result(project: ToolProject) -> None:
    project.configure(payload={"ebpf": None, "go": None, "binaries": ["kernels.yaml"]})
    result = project.root / ".bpfmatrix/results/6.1.json"
    result.parent.mkdir(parents=True)
    result.write_text("of an earlier run")
    process = project.start("watch", "6.1")
    wait_until(lambda: result.exists() and "neither an ELF" in result.read_text(), "it failed")
    process.send_signal(signal.SIGINT)
    assert "neither an ELF executable nor a script" in project.finish(process).output
    assert project.result().outcome is Outcome.ERROR


@pytest.mark.parametrize(
    ("words", "clean"),
    [(("kernels.list", "--json"), "[2J"), (("kernels.list",), "evil"), (("report",), "boo")],
)
def test_names_in_files_are_no_commands(
    project: ToolProject, words: tuple[str, ...], clean: str
) -> None:
    evil = "evil\x1b[2J\n::error::boo ##vso[x]"
    config = yaml.safe_load((project.root / "kernels.yaml").read_text())
    config["kernels"]["6.1"]["source"] = {"directory": evil}
    (project.root / "kernels.yaml").write_text(yaml.safe_dump(config))
    run = KernelRun("6.1", Outcome.FAILED, evil, version=evil, tests=())
    files.write(run, project.root / ".bpfmatrix/results/6.1.json")
    done = project.invoke(*words)
    assert clean in done.output
    assert "\x1b" not in done.output
    assert not any(line.lstrip().startswith("::error::") for line in done.output.splitlines())
    assert "##vso[" not in done.output


def test_an_error_says_names_without_commands(project: ToolProject) -> None:
    done = project.invoke("run", "--kernel", "6.1\x1b[2J\n::error::boo")
    assert done.status == 2
    assert "\x1b" not in done.output
    assert "\n::error::" not in done.output


def test_a_reader_that_stops_early_causes_no_traceback(project: ToolProject) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does when it has read enough
    done = subprocess.run(
        project.command("kernels.list", "--json"),
        cwd=project.root,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_push_needs_a_repository(project: ToolProject) -> None:
    done = project.invoke("kernels.push", "6.1", env={"BPFMATRIX_REGISTRY": ""})
    assert done.status == 2
    assert "kernels.push: no repository is named" in done.output
