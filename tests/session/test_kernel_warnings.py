"""A kernel's warnings, judged by kernels.yaml."""

from typing import Any

import pytest

from bpfmatrix.config.models import Config
from bpfmatrix.session.kernel_warnings import WarningCollector

REPORT = b"[    1.0] WARNING: suspicious RCU usage\n[    1.1] ---[ end trace 0 ]---\n"


def collector(policy: str, *expect: dict[str, Any]) -> WarningCollector:
    kernels = {"6.1": {"source": {"directory": "x"}, "kernel_warnings": policy}}
    config = Config.model_validate({"kernels": kernels, "expect": list(expect)})
    return WarningCollector(config.kernel("6.1"), "6.1.192")


EXPECTED = {"warning": "*RCU usage*", "reason": "known"}


@pytest.mark.parametrize(
    ("policy", "expect", "found", "failure"),
    [
        ("report", [], [""], ""),
        ("ignore", [], [], ""),
        ("fail", [], [""], "1 kernel warning, the first: WARNING: suspicious RCU usage"),
        ("fail", [EXPECTED], ["known"], ""),
        ("fail", [{**EXPECTED, "until": "6.1.100"}], [""], "1 kernel warning, the first: WARN"),
        ("fail", [{**EXPECTED, "kernels": ["7.*"]}], [""], "1 kernel warning, the first: WARN"),
    ],
)
def test_what_becomes_of_a_warning(
    policy: str, expect: list[dict[str, Any]], found: list[str], failure: str
) -> None:
    made = collector(policy, *expect)
    made.feed(REPORT, "TestX")
    assert [(one.during, one.expected) for one in made.close()] == [("TestX", f) for f in found]
    assert made.failure().startswith(failure)
    assert bool(made.failure()) == bool(failure)


def test_a_taint_without_words_is_a_warning() -> None:
    made = collector("report")
    made.see_taint(False, "one")
    made.see_taint(True, "two")
    made.see_taint(False, "three")
    made.feed(REPORT, "four")
    made.see_taint(True, "four")
    made.see_taint(True, "another guest")
    assert [one.during for one in made.close()] == ["two", "four", "another guest"]


def test_a_kernel_that_never_stops_complaining_does_not_fill_the_result() -> None:
    made = collector("report")
    made.feed(REPORT * 1000, "one")
    assert len(made.close()) == 100
