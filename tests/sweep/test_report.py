import dataclasses
import json

import pytest

from bpfmatrix.config.models import Config
from bpfmatrix.kernels.series import Available, LeftOut
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.sweep.differences import Compared, compared
from bpfmatrix.sweep.plan import Results, Standing
from bpfmatrix.sweep.report import Ends, SweepReport, bisection_ends, gone, swept
from bpfmatrix.sweep.state import Part, Result
from tests.sweep import samples

SOURCE = {"apt": {"suite": "bookworm-security"}}


def offered(kernels: tuple[str, ...] = ("6.1", "7.3", "7.4")) -> Available:
    config = Config.model_validate({"kernels": {id: {"source": SOURCE} for id in kernels}})
    left_out = (LeftOut("6.19", "x86_64", "6.19 is left out"),)
    return Available(config, kernels, {}, left_out)


def of_tests(now: Result, *last: Result) -> Compared:
    return compared(Part.TESTS, now, {one.kernel: one for one in last})


def report(*found: Compared) -> SweepReport:
    return SweepReport((), {}, (), {}, found, None)


OLD = samples.run(samples.of_test("T"), version="6.1.190")
BROKEN = samples.run(samples.of_test("T", Outcome.FAILED))


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (of_tests(samples.run(samples.of_test("T")), OLD), 0),
        (of_tests(BROKEN, OLD), 1),
        (of_tests(BROKEN, BROKEN), 0),
        (of_tests(BROKEN), 1),
        (of_tests(dataclasses.replace(BROKEN, outcome=Outcome.ERROR)), 1),
        (of_tests(dataclasses.replace(OLD, tests=(), outcome=Outcome.LOST), BROKEN), 1),
    ],
)
def test_the_exit_status_is_1_for_a_regression_and_for_what_could_not_be_run(
    found: Compared, status: int
) -> None:
    assert report(found).exit_status == status
    assert report().exit_status == 0
    assert json.dumps(report(found).as_json())


def test_what_says_nothing_about_its_kernel_is_not_compared_with_later() -> None:
    lost = of_tests(dataclasses.replace(OLD, outcome=Outcome.LOST))
    assert report(lost, of_tests(BROKEN)).conclusive == [(Part.TESTS, "6.1")]
    assert report(lost).conclusive == []


def test_a_kernel_stands_to_its_last_result() -> None:
    last: Results = {Part.TESTS: {"6.1": OLD}, Part.PROGRAMS: {}}
    moved, new = swept([samples.target(digest="sha256:other"), samples.target("7.4")], last)
    assert (moved.standing, moved.before, moved.version) == (Standing.MOVED, "6.1.190", "6.1.192")
    assert (new.standing, new.before) == (Standing.NEW, "")


def test_a_kernel_is_gone_if_no_source_has_it_even_in_part() -> None:
    results = {id: samples.run(kernel=id, version=id) for id in ("6.1", "6.19", "6.17", "6.1@u")}
    last: Results = {Part.TESTS: results, Part.PROGRAMS: {}}
    assert gone(last, ["6.1"], offered()) == {"6.17": "6.17"}


KERNELS = offered().config


def test_between_two_releases_of_a_series_the_releases_are_bisected() -> None:
    found = of_tests(BROKEN, OLD)
    ends = bisection_ends(found, KERNELS, {"6.1", "6.1.190", "6.1.192"})
    assert ends == Ends("6.1.190", "6.1.192")
    ends = bisection_ends(found, KERNELS, {"6.1", "6.1.192"})
    assert ends == Ends("6.1.190", "6.1.192", ("6.1.190",))


def test_between_two_series_their_ids_are_bisected() -> None:
    before = samples.run(samples.of_test("T"), kernel="7.3", version="7.3.4")
    now = samples.run(samples.of_test("T", Outcome.FAILED), kernel="7.4", version="7.4.1")
    assert bisection_ends(of_tests(now, before), KERNELS, ()) == Ends("7.3", "7.4")


def test_if_the_payload_changed_and_not_the_kernel_there_is_nothing_to_bisect() -> None:
    before = samples.run(samples.of_test("T"))
    assert bisection_ends(of_tests(BROKEN, before), KERNELS, ()) is None
    assert bisection_ends(of_tests(BROKEN), KERNELS, ()) is None
