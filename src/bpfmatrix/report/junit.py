"""JUnit's XML, which CI systems list tests from: a suite for each kernel and kind."""

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from bpfmatrix.report.model import Cell, Column, Kind, Matrix, Row
from bpfmatrix.report.text import plain, said
from bpfmatrix.results.outcome import Outcome

__all__ = ["render"]


def render(matrix: Matrix) -> str:
    """Return the XML."""
    xml = JUnitXml("bpfmatrix")
    for column in matrix.columns:
        for kind in dict.fromkeys(result.kind for result in column.results):
            xml.add_testsuite(_suite(column, kind))
    xml.update_statistics()  # type: ignore[no-untyped-call]
    text = xml.tostring()  # type: ignore[no-untyped-call]
    return text.decode("utf-8") if isinstance(text, bytes) else str(text)


def _suite(column: Column, kind: Kind) -> TestSuite:
    runs = [result.found for result in column.results if result.kind is kind]
    suite = TestSuite(plain(f"{column.label} {kind}s"))
    suite.timestamp = plain(runs[0].started_at)
    suite.hostname = plain(column.label)
    for name in ("kernel", "release", "version", "arch", "accelerator", "start", "console"):
        if value := getattr(runs[0], name):
            suite.add_property(name, plain(value))
    rows = [(row, cell) for row, cell in column.cells.items() if row.kind is kind]
    suite.add_testcases([_case(column, row, cell) for row, cell in rows])
    failed = any(cell.bad for _, cell in rows)
    for found in runs:
        if found.outcome is Outcome.PASSED or failed:
            continue
        # Such as a kernel that could not be booted: no row says so.
        case = TestCase(plain(f"kernel {column.label}"), _class(column, ""), 0.0)
        word = Skipped if found.outcome is Outcome.SKIPPED else Error
        case.result = [word(plain(found.reason), str(found.outcome))]
        suite.add_testcase(case)
    suite.update_statistics()  # type: ignore[no-untyped-call]
    # Of the whole run: its tests' times are not all of it.
    suite.time = round(sum(found.seconds for found in runs), 3)
    return suite


def _case(column: Column, row: Row, cell: Cell) -> TestCase:
    case = TestCase(plain(row.name), _class(column, row.group), round(cell.seconds, 3))
    message = plain(said(cell))
    if cell.bad:
        type = Failure if cell.outcome in (Outcome.FAILED, Outcome.TIMEOUT) else Error
        result = type(message, cell.code or str(cell.outcome))
        if row.kind is Kind.PROGRAM:
            result.text = plain("\n".join(part for part in (cell.source, cell.output) if part))
        case.result = [result]
    elif cell.outcome is not Outcome.PASSED:
        case.result = [Skipped(message, cell.code or str(cell.outcome))]
    output = "" if row.kind is Kind.PROGRAM and cell.bad else cell.output
    if cell.surprising:
        output = f"{message}\n{output}"
    if output:
        case.system_out = plain(output)
    return case


def _class(column: Column, group: str) -> str:
    # Where a CI shows a tree of packages, a kernel is one: its dots are not levels of it.
    return plain(".".join(part for part in (column.label.replace(".", "_"), group) if part))
