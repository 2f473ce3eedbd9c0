"""The commands that messages name after a run: each is parsed as if it were typed."""

import shlex
from pathlib import Path

import pytest
from invoke.parser import Parser

from bpfmatrix.cli import options
from bpfmatrix.cli.again import again_of
from bpfmatrix.cli.tasks import namespace
from bpfmatrix.cli.tasks.declaration import OptionTask
from bpfmatrix.cli.values import Values, read
from bpfmatrix.report.again import Again


def parsed(command: str) -> Values:
    """Read a command as invoke and its task do."""
    words = shlex.split(command)
    assert words.pop(0) == "invoke"
    contexts = Parser(contexts=namespace.to_contexts()).parse_argv(words)
    (found,) = [context for context in contexts if context.name]
    task = namespace[str(found.name)]
    assert isinstance(task, OptionTask)
    return read(task.options, {name: arg.value for name, arg in found.args.items()})


def again(**typed: object) -> Again:
    """Return how a run with these options was started."""
    names = {"binary": (Path("build/my test"),), "capabilities": ("CAP_BPF", "CAP_PERFMON")}
    return again_of(
        Values({"rootfs": "host", "share": ("/srv:rw",), "user": "nobody", **names, **typed})
    )


@pytest.mark.parametrize("image", [None, Path("my kernels/vmlinuz")])
def test_each_command_has_the_options_of_the_run(
    image: Path | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build/my test").touch()
    monkeypatch.chdir(tmp_path)
    started = again(image=image)
    commands = [
        started.run("5.10", "m/a:TestX"),
        started.debug("5.10", "m/a:TestX", "--batch", "bt"),
    ]
    if image is None:
        commands += [
            started.bisect("5.10", "m/a:TestX"),
            started.bisect("5.10", "m/a:TestX", "6.1"),
        ]
    else:
        assert started.bisect("5.10", "m/a:TestX", "6.1") == ""
        assert started.verify(["5.10"], "/a.o") == ""
    for command in commands:
        values = parsed(command)
        assert values[options.RUN] == "m/a:TestX"
        assert values[options.BINARY] == (Path("build/my test"),)
        assert values[options.ROOTFS] == "host"
        assert values[options.SHARE] == ("/srv:rw",)
        assert values[options.USER] == "nobody"
        assert values[options.CAPABILITIES] == ("CAP_BPF", "CAP_PERFMON")
        if "bisect" not in command:
            assert (values[options.KERNEL], values[options.IMAGE]) == (
                (None, image) if image else ("5.10", None)
            )


def test_verify_names_the_kernels_and_the_object() -> None:
    how = ("--loader", "cilium-ebpf")
    values = parsed(again().verify(["5.10", "6.1@low"], "../a b.o", options=how))
    assert values[options.KERNELS] == "5.10,6.1@low"
    assert values[options.OBJECTS] == ("../a b.o",)
    assert values[options.LOADER] == ("cilium-ebpf",)


def test_kernels_that_kernels_yaml_does_not_declare_are_available_ones() -> None:
    started = Again(available=True, declared=frozenset({"5.10"}))
    values = parsed(started.run("6.9", "TestX"))
    assert (values[options.AVAILABLE], values[options.KERNELS]) == (True, "6.9")
    assert started.debug("6.9", "TestX") == ""
    assert parsed(started.debug("5.10@low", "TestX"))[options.KERNEL] == "5.10@low"
    assert parsed(started.verify(["5.10", "6.9"], "/a.o"))[options.AVAILABLE]
    assert parsed(started.run("5.10", "TestX"))[options.KERNEL] == "5.10"


def test_a_bisection_has_no_profile() -> None:
    assert Again().bisect("5.10@low", "TestX", "6.1") == ""


def test_gdb_can_be_told_to_stop_at_the_rejection() -> None:
    values = parsed(Again().debug("5.10", "TestX", "--break", "rejection"))
    assert values[options.BREAK] == ("rejection",)
