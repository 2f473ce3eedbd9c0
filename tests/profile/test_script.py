"""What a user wants to run, and how the guest runs it."""

from pathlib import Path

import pytest

from bpfmatrix.errors import UsageError
from bpfmatrix.profile.script import Script, ScriptRequest


def test_a_script_runs_with_the_flags_of_python_before_it(tmp_path: Path) -> None:
    path = tmp_path / "main.py"
    path.touch()
    request = ScriptRequest(path, arguments=("-v", "x"), flags=("-O", "-X", "dev"))
    request.check()
    files = {"script/main.py": path, "python/site/a.py": Path("/a.py")}
    script = Script.of(request, files)
    assert script.words == ("-O", "-X", "dev", "/payload/script/main.py", "-v", "x")
    assert script.files == {"main.py": path}
    assert script.packages == {"site/a.py": Path("/a.py")}
    assert script.path == path


def test_a_module_runs_by_its_name() -> None:
    request = ScriptRequest(module="pkg.tool", arguments=("x",))
    request.check()
    assert Script.of(request, {}).words == ("-m", "pkg.tool", "x")


@pytest.mark.parametrize(
    ("flags", "level"),
    [((), 0), (("-O",), 1), (("-OO",), 2), (("-bO", "-O"), 2), (("-X", "O"), 0), (("-WOnce",), 0)],
)
def test_the_level_of_optimization_is_read_from_the_flags(
    flags: tuple[str, ...], level: int
) -> None:
    assert ScriptRequest(module="m", flags=flags).optimize == level


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ScriptRequest(), "runs a script or a module"),
        (ScriptRequest(Path(__file__), module="m"), "runs a script or a module"),
        (ScriptRequest(Path("missing.py")), r"missing\.py: no such script"),
        (ScriptRequest(module="a b"), "expected a module's name"),
        (ScriptRequest(module="pkg/tool.py"), "expected a module's name"),
        (ScriptRequest(module="m", flags=("-I",)), "-I can't be used: it ignores PYTHONPATH"),
        (ScriptRequest(module="m", flags=("-bc", "pass")), "-c can't be used"),
        (ScriptRequest(module="m", flags=("word",)), "'word' is not a flag of Python"),
        (ScriptRequest(module="m", flags=("--help",)), "'--help' is not a flag of Python"),
        (ScriptRequest(module="m", flags=("-X",)), "-X needs a value"),
    ],
)
def test_what_can_not_be_run_is_told(request_: ScriptRequest, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request_.check()
