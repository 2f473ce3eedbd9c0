from bpfmatrix.report.changes import render
from bpfmatrix.verify.compare import Change


def test_what_is_the_same_on_several_kernels_is_one_row_and_regressions_come_first() -> None:
    grown = "100 instructions processed before, 112 now (+12%)"
    changes = [
        Change("5.10", "a.bpf.o", "fine", "did not load, loads now"),
        Change("6.1", "a.bpf.o", "p", grown, regression=True),
        Change("6.12", "a.bpf.o", "p", grown, regression=True),
    ]
    lines = render("the baseline of main at 1a2b", changes).splitlines()
    assert lines[0] == "### ❌ eBPF programs: 1 regression, 1 other change"
    assert lines[2] == "Compared with the baseline of main at 1a2b."
    assert lines[6].startswith("| ❌ | <code>p</code> a&#46;bpf&#46;o | 100 instructions")
    assert lines[6].endswith("| <code>6&#46;1</code>, <code>6&#46;12</code> |")
    assert lines[7].startswith("|  | <code>fine</code>")
    assert len(lines) == 8


def test_no_changes() -> None:
    assert render("base.json", []).startswith("### ✅ eBPF programs: no changes")


def test_a_name_is_no_markup() -> None:
    change = Change("6.1", "a|b<x>.o", "p`[x](y)", "new, loads")
    row = render("base", [change]).splitlines()[-1]
    assert row.count(" | ") == 3
    assert "[x](y)" not in row
    assert "<x>" not in row
