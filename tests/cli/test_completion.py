"""Completion of command lines: what can stand there, and how shells ask for it.

The shells themselves are real ones, without a terminal.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.cli import options
from bpfmatrix.cli.completion import shells, values
from bpfmatrix.cli.completion.candidates import Argument, Candidate, Command, candidates
from bpfmatrix.cli.completion.values import COMPLETED, Known
from bpfmatrix.cli.options import AnyOption, Option
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from tests.terminal import Terminal
from tests.tool import plain_environment

CORE = Command("", "", (Argument("help", letter="h", takes_value=False), Argument("list")))
RUN = Command(
    "run",
    "Run.",
    (
        Argument("kernel", "The id.", "k", positional=True),
        Argument("run", letter="r"),
        Argument("binary", repeated=True),
        Argument("cold", takes_value=False),
    ),
)
VERIFY = Command("verify", "", (Argument("objects", repeated=True, positional=True),))
EXEC = Command("exec", "", (Argument("kernel", letter="k"),), wraps=True)
MATRIX = Command("matrix", "", (Argument("kernels"),))
COMMANDS = {each.name: each for each in (RUN, VERIFY, EXEC, MATRIX)}
VALUES = {"kernel": ("5.10", "6.1", "6.12"), "run": ("TestA",), "objects": ("a.o", "b.o")}


def complete(line: str) -> list[str]:
    """Return the candidates for a line of words; what follows the last space is completed."""
    *words, current = line.split(" ")

    def of_option(argument: Argument, _: str) -> list[Candidate]:
        return [Candidate(each) for each in VALUES.get(argument.name, ())]

    return [each.text for each in candidates(words, current, CORE, COMMANDS, of_option)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ["run", "verify", "exec", "matrix"]),
        ("ver", ["verify"]),
        ("--", ["--help", "--list"]),
        # The word of `run` is a kernel.
        ("run ", ["5.10", "6.1", "6.12"]),
        ("run 6", ["6.1", "6.12"]),
        ("run 6.1 ", ["--run", "--binary", "--cold"]),
        ("run --cold 6", ["6.1", "6.12"]),
        # A value, with and without a `=`, by name and by letter.
        ("run --kernel 5", ["5.10"]),
        ("run -k ", ["5.10", "6.1", "6.12"]),
        ("run --kernel=6.12", ["--kernel=6.12"]),
        ("run --kernel=6.1 --r", ["--run"]),
        ("run --kernel 6.1 --run T", ["TestA"]),
        # An option is not offered again, unless it is repeatable.
        ("run --cold --binary x --", ["--kernel", "--run", "--binary", "--help"]),
        # A value that looks like an option or a command is a value.
        ("run --run --cold --", ["--kernel", "--binary", "--cold", "--help"]),
        ("run --run verify --c", ["--cold"]),
        ("verify a.o ", ["a.o", "b.o"]),
        # A second command.
        ("verify a.o run 6.12", ["6.12"]),
        ("matrix ", ["--kernels"]),
        # Names of files, or words of other programs: nothing is known about them.
        ("run --binary ", []),
        ("run 6.1 -- ", []),
        ("exec -k 6.1 ./a.test -k ", []),
        ("exec -k ", ["5.10", "6.1", "6.12"]),
        ("exec ", []),
        ("nonsense --nothing ", ["run", "verify", "exec", "matrix"]),
        ("run --nothing 6", ["6.1", "6.12"]),
    ],
)
def test_what_can_stand_there(line: str, expected: list[str]) -> None:
    assert complete(line) == expected


@given(st.lists(st.text(max_size=12), max_size=8), st.text(max_size=12))
def test_any_words_have_candidates_that_begin_with_the_last_one(
    words: list[str], current: str
) -> None:
    found = candidates(words, current, CORE, COMMANDS, lambda *_: [Candidate("6.1")])
    assert all(each.text.startswith(current) for each in found)


_WORDS = st.lists(st.text(st.characters(blacklist_categories=("Cs", "Cc"), codec="utf-8")))


@given(_WORDS, st.text(st.characters(blacklist_categories=("Cs", "Cc"))))
def test_a_quoted_line_is_split_into_its_words(words: list[str], last: str) -> None:
    line = "".join(f"{shlex.quote(word)} " for word in words)
    assert shells.split(line + shlex.quote(last)) == (words, last, False)
    # A line may end within quotes.
    assert shells.split(f"{line}'{last.replace(chr(39), '')}")[2]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (r"run a\ b", (["run"], "a b", False)),
        (r'run "a\"b\c', (["run"], r"a\"b\c".replace('\\"', '"'), True)),
        ("run ''", (["run"], "", False)),
        ("run '' x", (["run", ""], "x", False)),
        ("run ", (["run"], "", False)),
        ("", ([], "", False)),
        ("run a\\", (["run"], "a", False)),
    ],
)
def test_a_line_of_bash_is_split_by_its_quotes(
    line: str, expected: tuple[list[str], str, bool]
) -> None:
    assert shells.split(line) == expected


@given(st.text(), st.lists(st.text()), st.sampled_from(["", "bash", "zsh", "fish", "csh"]))
def test_any_request_is_answered_with_lines_that_are_candidates(
    line: str, words: list[str], shell: str
) -> None:
    environment = {"BPFMATRIX_COMPLETE": shell, "COMP_LINE": line, "COMP_WORDBREAKS": " =:"}
    odd = [Candidate("a b", "Means\nsomething. And more"), Candidate("x\ny"), Candidate("")]
    answer = shells.answer(lambda *_: odd, words, environment)
    assert "x" not in answer
    assert len(answer.splitlines()) <= 1


def test_bash_gets_only_what_it_replaces_quoted_for_it() -> None:
    def asked(line: str, *texts: str) -> str:
        environment = {"BPFMATRIX_COMPLETE": "bash", "COMP_LINE": line, "COMP_WORDBREAKS": " =:@"}
        return shells.answer(lambda *_: [Candidate(text) for text in texts], (), environment)

    assert asked("p run --kernel=6", "--kernel=6.1") == "6.1\n"
    assert asked("p run 6.1@", "6.1@user") == "user\n"
    assert asked("p verify a", "a b$.o") == "a\\ b\\$.o\n"
    assert asked("p verify 'a", "a b$.o") == "a b$.o\n"


def test_a_script_of_invokes_own_gets_what_can_follow_and_what_can_be_meant() -> None:
    seen: list[tuple[Sequence[str], str]] = []

    def ask(words: Sequence[str], current: str) -> list[Candidate]:
        seen.append((tuple(words), current))
        return [Candidate(f"{len(words)}")]

    assert shells.answer(ask, ["invoke", "run", "--kernel", "=", "6"], {}) == "3\n2\n"
    assert seen == [(("run", "--kernel", "6"), ""), (("run", "--kernel"), "6")]


def test_what_completes_values_is_of_an_option_that_there_is() -> None:
    names = {each.name for each in vars(options).values() if isinstance(each, Option)}
    assert names >= COMPLETED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with kernels, results and verifications, and its tasks."""
    (tmp_path / "kernels.yaml").write_text(
        "kernels:\n"
        '  "5.10": {source: {oci: example/5.10}}\n'
        '  "6.1": {source: {oci: example/6.1}}\n'
        '  "6.12": {source: {oci: example/6.12}}\n'
        "profiles: {user: {user: nobody}}\n"
        "verify: {objects: [{path: a.o, presets: {small: {}}}]}\n"
        "payload: {ebpf: null, go: null}\n"
    )
    (tmp_path / "tasks.py").write_text("from bpfmatrix.tasks import namespace\n")
    tests = [("x", "TestRing/a"), ("x", "TestRing/b c"), ("x", "TestMap"), ("has-loops",) * 2]
    programs = [("build/a b.o", "on_exec"), ("build/c.o", "on_exit")]
    result = {"tests": [{"binary": binary, "name": name} for binary, name in tests]}
    verification = {"programs": [{"object": object, "program": p} for object, p in programs]}
    for kind, data in (("results", result), ("verify", verification)):
        (tmp_path / ".bpfmatrix" / kind).mkdir(parents=True)
        (tmp_path / ".bpfmatrix" / kind / "6.1.json").write_text(json.dumps(data))
    return tmp_path


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        (options.KERNEL, "", ["5.10", "6.1", "6.12"]),
        (options.KERNEL, "6.1@", ["5.10", "6.1", "6.12", "6.1@user"]),
        (options.KERNELS, "6.1,", ["6.1,5.10", "6.1,6.12"]),
        (options.PROFILE, "", ["user"]),
        (options.RUN, "", ["TestMap", "TestRing", "has-loops"]),
        (options.TEST, "", ["has-loops", "x"]),
        (options.OBJECTS, "", ["build/a b.o", "build/c.o"]),
        (options.PROGRAM, "", ["on_exec", "on_exit"]),
        (options.PRESET, "", ["small"]),
        (options.FORMAT, "", ["table", "json", "junit", "markdown", "html"]),
        (options.LOADER, "libbpf,", ["libbpf,cilium-ebpf", "libbpf,aya"]),
        (options.SORT, "verdict,fi", None),
        (options.CAPABILITIES, "CAP_BPF,", None),
        (options.BINARY, "", []),
    ],
)
def test_values_are_those_of_the_project(
    folder: Path, option: AnyOption, text: str, expected: list[str] | None
) -> None:
    found = [each.text for each in values.values(Known(folder), Argument(option.name), text)]
    if expected is not None:
        assert found == expected
    assert found or option is options.BINARY


def test_a_folder_below_has_the_project_and_its_own_paths(folder: Path) -> None:
    below = folder / "some/where"
    below.mkdir(parents=True)
    objects = values.values(Known(below), Argument("objects"), "")
    assert [each.text for each in objects] == ["../../build/a b.o", "../../build/c.o"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kernels: [",
        "- x",
        "kernels: 7",
        "kernels: {5.10: {}}",
        "\x00",
        "a: 2027-99-99",
        "&a [*a]",
    ],
)
def test_a_broken_kernels_yaml_has_no_values(tmp_path: Path, text: str) -> None:
    (tmp_path / "kernels.yaml").write_text(text)
    for name in COMPLETED:
        values.values(Known(tmp_path), Argument(name), "")  # raises nothing
    assert not values.values(Known(tmp_path), Argument("kernel"), "")


_KEYS = st.sampled_from(
    ("kernels", "profiles", "verify", "objects", "presets", "tests", "programs", "binary", "name")
)
_DATA = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner),
    max_leaves=20,
)


@given(_DATA)
def test_odd_data_in_files_cause_no_error(
    tmp_path_factory: pytest.TempPathFactory, data: object
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    (folder / ".bpfmatrix/results").mkdir(parents=True)
    (folder / ".bpfmatrix/verify").mkdir(parents=True)
    text = json.dumps(data)  # which is YAML, too
    for name in ("kernels.yaml", ".bpfmatrix/results/a.json", ".bpfmatrix/verify/a.json"):
        (folder / name).write_text(text)
    for name in COMPLETED:
        found = values.values(Known(folder), Argument(name), "")
        assert all(isinstance(each.text, str) for each in found)


PROGRAMS = ("bpfmatrix", "invoke")


def environment() -> dict[str, str]:
    """Return an environment in which the programs beside this Python are found."""
    own = plain_environment()
    return {**own, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"}


def shell(folder: Path, *words: str, text: str) -> str:
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment(),
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


BASH = r"""
eval "$(bpfmatrix completion bash)"
for program in bpfmatrix invoke; do
    for line in 'run 6.' 'run --kernel=6.' 'run 6.1 --run TestR' 'verify build/' 'nonsen'; do
        COMP_LINE="$program $line"
        COMP_POINT=${#COMP_LINE}
        read -ra COMP_WORDS <<<"$COMP_LINE"
        _bpfmatrix_complete "$program" "${COMP_WORDS[-1]##*=}" ''
        printf '%s:' "$COMP_LINE"
        printf ' <%s>' "${COMPREPLY[@]}"
        echo
    done
done
"""


def test_bash_completes_for_both_programs(folder: Path) -> None:
    said = shell(folder, "bash", "--norc", "-s", text=BASH).splitlines()
    assert said == [
        line
        for program in PROGRAMS
        for line in (
            f"{program} run 6.: <6.1> <6.12>",
            f"{program} run --kernel=6.: <6.1> <6.12>",
            f"{program} run 6.1 --run TestR: <TestRing>",
            rf"{program} verify build/: <build/a\ b.o> <build/c.o>",
            f"{program} nonsen: <>",
        )
    ]


FISH = """
bpfmatrix completion fish | source
for program in bpfmatrix invoke
    for line in 'run 6.' 'run --kernel=6.' 'verify build/' 'ebp' 'report kern'
        echo $program (complete -C "$program $line")
    end
end
"""


def test_fish_completes_for_both_programs(folder: Path) -> None:
    said = shell(folder, "fish", "--no-config", text=FISH).splitlines()
    assert said == [
        line
        for program in PROGRAMS
        for line in (
            f"{program} 6.1 6.12",
            f"{program} --kernel=6.1 --kernel=6.12",
            f"{program} build/a b.o build/c.o",
            f"{program} ebpf\tBuild the eBPF objects, and show what each needs of a kernel",
            f"{program} kernels.yaml",  # a file, since nothing else is known
        )
    ]


def test_zsh_completes_for_both_programs(folder: Path) -> None:
    script = folder / "widget.zsh"
    # Without its line editor: what would be offered is printed.
    script.write_text(
        "autoload -Uz compinit && compinit -u -D\n"
        'eval "$(bpfmatrix completion zsh)"\n'
        "_describe() { print -rl -- ${(P)@[-1]} }\n"
        "_files() { print -r -- files }\n"
        "for program in bpfmatrix invoke; do\n"
        "    for line in 'run 6.' 'run 6.1 --run TestR' 'verify build/' 'ebp' 'nonsen'; do\n"
        '        words=($program "${(@s: :)line}") CURRENT=$(( 1 + ${#${(@s: :)line}} ))\n'
        '        print -r -- $program $line: ${(f)"$(_bpfmatrix)"}\n'
        "    done\n"
        "done\n"
    )
    said = shell(folder, "zsh", "-f", str(script), text="").splitlines()
    assert said == [
        line
        for program in PROGRAMS
        for line in (
            f"{program} run 6.: 6.1: 6.12:",
            f"{program} run 6.1 --run TestR: TestRing:",
            f"{program} verify build/: build/a b.o: build/c.o:",
            f"{program} ebp: ebpf:Build the eBPF objects, and show what each needs of a kernel",
            f"{program} nonsen: files",
        )
    ]


@pytest.mark.parametrize(
    "command",
    [("bash", "--norc", "-i"), ("zsh", "-f", "-i"), ("fish", "--no-config", "-i")],
    ids=lambda command: command[0],
)
def test_a_key_completes_the_word_at_a_terminal(folder: Path, command: tuple[str, ...]) -> None:
    name = command[0]
    prepare = "autoload -Uz compinit && compinit -u -D && " if name == "zsh" else ""
    script = f"bpfmatrix completion {name}"
    load = f"{script} | source" if name == "fish" else f'eval "$({script})"'
    own = {**environment(), "HOME": str(folder), "TERM": "dumb" if name != "fish" else "xterm"}
    with Terminal(command, folder, own) as terminal:
        # The quotes keep the echo of the command from being taken for its output.
        terminal.type(f"{prepare}{load}; echo load''ed\n")
        terminal.expect("loaded")
        terminal.type("echo : bpfmatrix >/dev/null; bpfmatrix run 5\t")
        terminal.expect("run 5.10")
        terminal.interrupt()


def test_after_ctrl_c_the_tests_of_the_result_before_are_known(tmp_path: Path) -> None:
    (tmp_path / "kernels.yaml").write_text("kernels: {}\n")
    folder = tmp_path / ".bpfmatrix/results"
    path, test = folder / "6.1.json", TestResult("a", "TestA", Outcome.PASSED)
    files.write(KernelRun("6.1", Outcome.PASSED, tests=(test,)), path)
    files.set_aside(path)
    files.write(KernelRun("6.1", Outcome.INTERRUPTED), path)
    assert list(Known(tmp_path).tests) == [("a", "TestA")]


def test_what_the_help_does_not_show_is_not_completed(folder: Path) -> None:
    said = subprocess.run(
        ["bpfmatrix", "--complete", "--", "--"],
        cwd=folder,
        env={**environment(), "BPFMATRIX_COMPLETE": "fish"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert [line.split("\t")[0] for line in said.splitlines()] == ["--help", "--list", "--version"]
