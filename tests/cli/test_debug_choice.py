"""What `debug --core` takes: no option that is about a machine, or about what it runs."""

from pathlib import Path

import pytest

from bpfmatrix.cli.options import AnyOption, OptionKind
from bpfmatrix.cli.tasks.debug import _open_core, debug
from bpfmatrix.cli.values import Values
from bpfmatrix.errors import UsageError

CORE = Path("vmcore")
OF_CORES = {"core", "kernel", "image", "vmlinux", "source", "names", "batch", "gdb-args"}
ALL: tuple[AnyOption, ...] = debug.options
OTHERS = [one for one in ALL if one.name not in OF_CORES]


@pytest.mark.parametrize("option", OTHERS, ids=lambda option: option.name)
def test_options_of_a_machine_are_refused(option: AnyOption) -> None:
    values = {OptionKind.FLAG: True, OptionKind.REPEATED: ("a",), OptionKind.VALUE: "a"}
    typed = {option.name: values[option.kind]}
    with pytest.raises(UsageError, match=f"--core and --{option.name} don't go together"):
        _open_core(Values(typed), CORE)


def test_arguments_of_tests_are_refused() -> None:
    with pytest.raises(UsageError, match="--core and arguments of tests"):
        _open_core(Values({}, ["-v"]), CORE)
