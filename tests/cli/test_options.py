"""The options of all commands: a name and a letter have one meaning, for nox and for invoke."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection
from invoke.program import Program

from bpfmatrix.cli import options
from bpfmatrix.cli.errors import exit_with_message
from bpfmatrix.cli.options import AnyOption, OptionKind
from bpfmatrix.cli.sessions import KERNEL_OPTIONS, MATRIX_OPTIONS, parse
from bpfmatrix.cli.tasks import namespace
from bpfmatrix.cli.tasks.declaration import OptionTask
from bpfmatrix.cli.values import debug_options, read, run_options, verify_options
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, ConfigError, PayloadError, UsageError
from bpfmatrix.virtiofs.shares import SharedFolder

RUN = (*options.TESTS, *options.HOST_FILES, *options.PRIVILEGES, options.CORE, options.COLD)


def tasks(collection: Collection) -> Iterator[tuple[str, OptionTask]]:
    for name in collection.task_names:
        task = collection[name]
        assert isinstance(task, OptionTask), f"{name} has options that are not in the table"
        yield name, task


COMMANDS: Mapping[str, tuple[AnyOption, ...]] = {
    "nox -s kernel-6.1": KERNEL_OPTIONS,
    "nox -s matrix": MATRIX_OPTIONS,
    **{f"invoke {name}": task.options for name, task in tasks(namespace)},
}


def test_a_letter_has_one_meaning_in_all_commands() -> None:
    meanings: dict[str, set[str]] = {}
    for declared in COMMANDS.values():
        for option in declared:
            if option.letter:
                meanings.setdefault(option.letter, set()).add(option.name)
    assert {letter: sorted(names) for letter, names in meanings.items()} == {
        "b": ["binary"],
        "j": ["jobs"],
        "k": ["kernel"],
        "m": ["module"],
        "o": ["output"],
        "t": ["timeout"],
    }


def test_an_option_has_its_letter_in_all_commands() -> None:
    for command, declared in COMMANDS.items():
        for option in declared:
            others = [one for all in COMMANDS.values() for one in all if one.name == option.name]
            assert {other.letter for other in others} == {option.letter}, (command, option.name)


def test_no_letter_is_one_of_invokes_own() -> None:
    program = Program()
    own = {name for one in (*program.core_args(), *program.task_args()) for name in one.names}
    letters = {option.letter for declared in COMMANDS.values() for option in declared}
    assert "h" in own
    assert letters & own == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_means_the_same_in_all_commands(command: str) -> None:
    names = [option.name for option in COMMANDS[command]]
    assert len(names) == len(set(names))
    known = [value for value in vars(options).values() if isinstance(value, options.Option)]
    for option in COMMANDS[command]:
        same = [one for one in known if one.name == option.name]
        assert same, option.name
        for one in same:
            # `--core` keeps core files, and `debug --core FILE` opens one.
            if {one, option} == {options.CORE, options.GUEST_CORE}:
                continue
            assert (one.parse, one.metavar) == (option.parse, option.metavar)
            # One command may take several values, and another one only one.
            assert (one.kind is OptionKind.FLAG) == (option.kind is OptionKind.FLAG)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_text_is_one_or_more_sentences(command: str) -> None:
    for option in COMMANDS[command]:
        assert option.help.endswith("."), option.name
        assert bool(option.metavar) == (option.kind is not OptionKind.FLAG), option.name


@pytest.mark.parametrize(("name", "task"), list(tasks(namespace)))
def test_invoke_has_the_letters_of_the_table_and_no_others(name: str, task: OptionTask) -> None:
    letters = {n for argument in task.get_arguments() for n in argument.names if len(n) == 1}
    assert letters == {option.letter for option in task.options if option.letter}


def test_the_session_of_a_kernel_reads_its_options(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "y").touch()
    x, y = str(tmp_path / "x"), str(tmp_path / "y")
    words = ["--run", "A", "--binary", x, "-b", y, "-t", "2m", "--", "-v", "a b"]
    values = parse("kernel-6.1", KERNEL_OPTIONS, words)
    assert values[options.RUN] == "A"
    assert values[options.BINARY] == (Path(x), Path(y))
    assert values[options.TIMEOUT] == 120
    assert values.arguments == ("-v", "a b")


def test_the_session_of_the_matrix_reads_its_options() -> None:
    values = parse("matrix", MATRIX_OPTIONS, ["--kernels", "6.*", "-j", "3", "--cached"])
    assert (values[options.KERNELS], values[options.JOBS]) == ("6.*", 3)
    assert (values[options.CACHED], values[options.FRESH]) == (True, False)


@pytest.mark.parametrize(
    "words", [["--nonsense"], ["--run"], ["--kernels", "6.1"], ["--net", "x"], ["--timeout", "x"]]
)
def test_a_mistake_in_the_options_of_a_session_ends_with_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("kernel-6.1", KERNEL_OPTIONS, words)
    assert caught.value.code == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize("declared", [KERNEL_OPTIONS, MATRIX_OPTIONS])
def test_the_help_of_a_session_has_the_tables_texts(
    declared: tuple[AnyOption, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("matrix", declared, ["--help"])
    assert caught.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for option in declared:
        assert f"--{option.name}" in printed
        assert option.help in printed


def test_what_is_not_given_has_its_default() -> None:
    values = read(COMMANDS["invoke verify"], {"attach": False, "objects": []})
    assert values[options.THRESHOLD] == 0.1
    assert values[options.OBJECTS] == ()
    assert values[options.MAX_INSNS] is None
    assert values[options.ATTACH] is False
    # An option of other tasks.
    assert values[options.CORE] is False


def test_the_options_of_a_run(tmp_path: Path, library_project: Project) -> None:
    binary = tmp_path / "x"
    binary.touch()
    typed = {"run": "A", "binary": [str(binary)], "timeout": "1.5m", "net": "user", "cold": True}
    asked = run_options(read(RUN, typed, ["-v"]), library_project)
    assert (asked.run, asked.binaries, asked.test_seconds) == ("A", (binary,), 90)
    assert (asked.network, asked.cold, asked.core, asked.cached) == (True, True, False, False)
    assert asked.arguments == ("-v",)


def test_the_privileges_of_a_run(library_project: Project) -> None:
    typed = {"user": "nobody", "capabilities": "bpf,CAP_PERFMON", "memlock": "default"}
    settings = run_options(read(RUN, typed), library_project).settings
    assert settings.model_fields_set == {"user", "capabilities", "memlock"}
    assert (settings.user, settings.memlock) == ("nobody", None)
    assert settings.capabilities == ["CAP_BPF", "CAP_PERFMON"]
    none = run_options(read(RUN, {"capabilities": "none"}), library_project).settings
    assert none.capabilities == []
    assert run_options(read(RUN, {}), library_project).settings.model_fields_set == set()


def test_options_of_the_command_line_win_over_those_of_the_project(
    library_project: Project, tmp_path: Path
) -> None:
    for name in ("declared", "root/etc"):
        (library_project.root / name).mkdir(parents=True)
    (tmp_path / "typed").mkdir()
    payload = {"rootfs": "root", "share": ["declared:rw"], "network": "user"}
    kernels = {"6.1": {"source": {"oci": "example/6.1"}}}
    config = Config.model_validate({"payload": payload, "kernels": kernels})
    project = dataclasses.replace(library_project, config=config)
    shares = [SharedFolder(project.root / "declared", True)]
    ours = run_options(read(RUN, {}), project)
    assert (ours.files.root, ours.network) == (project.root / "root", True)
    assert list(ours.files.shares) == shares
    typed = {"rootfs": "none", "share": [str(tmp_path / "typed")], "net": "none"}
    theirs = run_options(read(RUN, typed), project)
    assert (theirs.files.has_root, theirs.network) == (False, False)
    assert set(theirs.files.shares) == {*shares, SharedFolder(tmp_path / "typed")}
    wrong = config.model_copy(
        update={"payload": config.payload.model_copy(update={"share": ["x"]})}
    )
    with pytest.raises(UsageError, match=r"kernels\.yaml: payload\.share x: no such folder"):
        run_options(read(RUN, {}), dataclasses.replace(project, config=wrong))


def test_the_options_of_a_verification() -> None:
    typed = {"set": ["a=1", "b=x=y"], "limit": "2m", "max-insns": "80%", "objects": ["a.o"]}
    asked = verify_options(read(COMMANDS["invoke verify"], typed))
    assert (asked.set, asked.map_sizes) == ({"a": "1", "b": "x=y"}, {})
    assert (asked.limit_seconds, asked.max_insns, asked.objects) == (120, "80%", ("a.o",))


def test_the_options_of_a_debugger() -> None:
    typed = {"batch": "bt; ;info locals", "gdb-args": "-q -ex 'p 1'", "json-port": True}
    asked = debug_options(read(COMMANDS["invoke debug"], typed))
    assert asked.batch == ("bt", "info locals")
    assert asked.gdb_args == ("-q", "-ex", "p 1")
    assert asked.attach_later
    assert debug_options(read(COMMANDS["invoke debug"], {})).batch is None


@pytest.mark.parametrize(
    ("command", "typed", "sentence"),
    [
        ("run", {"timeout": "soon"}, "--timeout soon: expected a duration such as"),
        ("run", {"binary": ["none/x"]}, "--binary none/x: no such file"),
        ("run", {"net": "x"}, "--net x: expected one of user, none"),
        ("matrix", {"jobs": "x"}, "--jobs x: expected a whole number"),
        ("matrix", {"jobs": "-1"}, "--jobs -1: expected a number of machines"),
        ("debug", {"port": "x"}, "--port x: expected a whole number"),
        ("verify", {"map-size": ["=1"]}, "--map-size =1: expected NAME=VALUE"),
        ("completion", {}, "--shell is missing"),
        ("profile-python", {}, "no kernel is named"),
        ("profile-python", {"kernel": "6.1", "rate": "0"}, "--rate 0: expected a number from 1 to"),
        ("test-binaries", {"arch": "x86"}, "--arch x86: expected one of "),
    ],
)
def test_a_wrong_value_names_its_option(command: str, typed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(COMMANDS[f"invoke {command}"], typed)
    assert sentence in caught.value.what


def test_invoke_names_an_option_without_its_value_as_it_is_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        Program(namespace=namespace).run(["invoke", "run", "--kernel"])
    assert caught.value.code == 1
    assert "Flag --kernel needed value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [(BpfmatrixError("what", "do"), 1), (PayloadError("what"), 1), (ConfigError("what", "do"), 2)],
)
def test_an_error_is_its_sentences_and_its_status(
    error: BpfmatrixError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, exit_with_message():
        raise error
    assert caught.value.code == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "error: what\n" + ("       do\n" if error.advice else "")


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), exit_with_message():
        raise ZeroDivisionError
