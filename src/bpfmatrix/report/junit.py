"""JUnit XML, from which CI systems list tests: a suite for each kernel and kind of row."""

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Cell, Column, Kind, Row
from bpfmatrix.report.wording import plain, verdict
from bpfmatrix.results.outcome import Outcome

__all__ = ["render"]


def render(matrix: Matrix) -> str:
    """Return the XML as text."""
    xml = JUnitXml("bpfmatrix")
    for column in matrix.columns:
        for kind in dict.fromkeys(result.kind for result in column.results):
            xml.add_testsuite(_suite(column, kind))
    xml.update_statistics()  # type: ignore[no-untyped-call]
    text = xml.tostring()  # type: ignore[no-untyped-call]
    return text.decode("utf-8") if isinstance(text, bytes) else str(text)


def _suite(column: Column, kind: Kind) -> TestSuite:
    runs = [result.run for result in column.results if result.kind is kind]
    suite = TestSuite(plain(f"{column.label} {kind}s"))
    suite.timestamp = plain(runs[0].started_at)
    suite.hostname = plain(column.label)
    for name in ("kernel", "release", "version", "arch", "accelerator", "start", "console"):
        if value := getattr(runs[0], name):
            suite.add_property(name, plain(value))
    rows = [(row, cell) for row, cell in column.cells.items() if row.kind is kind]
    suite.add_testcases([_case(column, row, cell) for row, cell in rows])
    failed = any(cell.is_failure for _, cell in rows)
    for run in runs:
        if run.outcome is Outcome.PASSED or failed:
            continue
        # No row shows this failure: for example, the kernel could not be booted.
        case = TestCase(plain(f"kernel {column.label}"), _class(column, ""), 0.0)
        type = Skipped if run.outcome is Outcome.SKIPPED else Error
        case.result = [type(plain(run.reason), str(run.outcome))]
        suite.add_testcase(case)
    for dump in (dump for run in runs for dump in run.dumps):
        suite.add_property("core file of the memory", plain(dump))
    for warning in (warning for run in runs for warning in run.warnings):
        suite.add_property("kernel warning", plain(warning.summary))
    suite.update_statistics()  # type: ignore[no-untyped-call]
    # The times of the tests do not add up to the time of the whole run.
    suite.time = round(sum(run.seconds for run in runs), 3)
    return suite


def _case(column: Column, row: Row, cell: Cell) -> TestCase:
    case = TestCase(plain(row.name), _class(column, row.group), round(cell.seconds, 3))
    message = plain(verdict(cell))
    if cell.is_failure:
        type = Failure if cell.outcome in (Outcome.FAILED, Outcome.TIMEOUT) else Error
        if row.kind is Kind.TEST and cell.source:
            # CI systems show the beginning of a message, and make a link of a file with its line.
            message = plain(f"{cell.source}: {cell.reason}")
        result = type(message, cell.code or str(cell.outcome))
        if row.kind is Kind.PROGRAM:
            result.text = plain("\n".join(part for part in (cell.source, cell.output) if part))
        elif cell.explanation:
            result.text = plain(cell.explanation)
        case.result = [result]
    elif cell.outcome is not Outcome.PASSED:
        case.result = [Skipped(message, cell.code or str(cell.outcome))]
    output = "" if row.kind is Kind.PROGRAM and cell.is_failure else cell.output
    if cell.is_unexpected_pass:
        output = f"{message}\n{output}"
    if output:
        case.system_out = plain(output)
    return case


def _class(column: Column, group: str) -> str:
    # CI systems read a dot as a level of packages, so a kernel's version gets underscores instead.
    return plain(".".join(part for part in (column.label.replace(".", "_"), group) if part))
