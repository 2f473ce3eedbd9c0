"""The JUnit report, read by a parser of XML and by one of JUnit."""

import xml.etree.ElementTree as ET

from hypothesis import given
from junitparser import JUnitXml

from bpfmatrix.report import junit
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Result
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import KernelWarning, Outcome
from tests.report.samples import several


@given(several)
def test_the_report_is_junit_xml_with_a_case_for_each_row(results: list[Result]) -> None:
    matrix = Matrix.of(results)
    text = junit.render(matrix)
    root = ET.fromstring(text)
    cases = root.findall("./testsuite/testcase")
    bad = sum(cell.is_failure for column in matrix.columns for cell in column.cells.values())
    rows = sum(len(column.cells) for column in matrix.columns)
    kernels = [case for case in cases if "kernel " in case.attrib["name"]]
    assert rows <= len(cases) <= rows + len(results)
    found = [
        case for case in cases if case.find("failure") is not None or case.find("error") is not None
    ]
    assert bad <= len(found) <= bad + len(kernels)
    parsed = JUnitXml.fromstring(text)
    assert parsed.tests == len(cases)
    # A CI that counts only failures and errors must not show a pass where there is none.
    worse = [r for r in results if r.run.outcome not in (Outcome.PASSED, Outcome.SKIPPED)]
    assert (parsed.failures + parsed.errors > 0) or not worse


def test_kernel_warnings_are_properties_of_their_suite() -> None:
    warning = KernelWarning("WARNING: x", ("WARNING: x", "Call Trace:"), "TestX")
    tests = (TestResult("t", "a", Outcome.PASSED),)
    run = KernelRun("6.1", Outcome.PASSED, tests=tests, warnings=(warning,))
    root = ET.fromstring(junit.render(Matrix.of([Result(run)])))
    found = root.findall("./testsuite/properties/property[@name='kernel warning']")
    assert [one.attrib["value"] for one in found] == ["WARNING: x (during TestX)"]


def test_tests_of_equal_names_are_in_the_classes_of_their_packages() -> None:
    tests = tuple(TestResult(package, "TestX", Outcome.PASSED) for package in ("m/a", "m/b"))
    root = ET.fromstring(
        junit.render(Matrix.of([Result(KernelRun("6.1", Outcome.PASSED, tests=tests))]))
    )
    cases = root.findall("./testsuite/testcase")
    assert {(case.attrib["classname"], case.attrib["name"]) for case in cases} == {
        ("6_1.m/a", "TestX"),
        ("6_1.m/b", "TestX"),
    }
