import pytest

from bpfmatrix.config.models import Config
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.sweep.plan import Standing, Target, fingerprint, is_conclusive, standing, to_run
from bpfmatrix.sweep.state import Part, Result
from tests.sweep import samples


def results(*runs: KernelRun) -> dict[Part, dict[str, Result]]:
    return {Part.TESTS: {one.kernel: one for one in runs}, Part.PROGRAMS: {}}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (samples.target("7.4"), Standing.NEW),
        (samples.target(digest="sha256:other"), Standing.MOVED),
        (samples.target(digest="sha256:other", fingerprint="other"), Standing.MOVED),
        (samples.target(fingerprint="other"), Standing.CHANGED),
        (samples.target(), Standing.SAME),
    ],
)
def test_a_kernel_is_known_by_its_digest_and_the_payload(
    target: Target, expected: Standing
) -> None:
    last = results(samples.run(samples.of_test("T")))
    assert standing(target, last) is expected
    runs = to_run([target], Part.TESTS, last, results(), everything=False)
    assert bool(runs) is (expected is not Standing.SAME)


def test_all_runs_what_is_not_new_too() -> None:
    last = results(samples.run(samples.of_test("T")))
    assert to_run([samples.target()], Part.TESTS, last, results(), everything=True) == ["6.1"]


@pytest.mark.parametrize("everything", [False, True])
def test_what_an_interrupted_sweep_has_finished_is_not_run_again(everything: bool) -> None:
    finished = results(samples.run(samples.of_test("T")))
    assert to_run([samples.target()], Part.TESTS, results(), finished, everything) == []
    newer = samples.target(digest="sha256:other")
    assert to_run([newer], Part.TESTS, results(), finished, everything) == ["6.1"]


def test_a_part_that_the_project_did_not_have_is_run() -> None:
    last = results(samples.run(samples.of_test("T")))
    both = Target("6.1", "6.1.192", "sha256:b", {Part.TESTS: "f", Part.PROGRAMS: "g"})
    assert standing(both, last) is Standing.CHANGED
    assert to_run([both], Part.TESTS, last, results(), everything=False) == []
    assert to_run([both], Part.PROGRAMS, last, results(), everything=False) == ["6.1"]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_runs_that_say_something_about_the_kernel_are_kept(outcome: Outcome) -> None:
    ours = (Outcome.ERROR, Outcome.LOST, Outcome.INTERRUPTED)
    assert is_conclusive(KernelRun("6.1", outcome)) is (outcome not in ours)


def test_the_machine_and_the_payload_are_in_the_fingerprint_but_not_what_is_expected() -> None:
    def config(**more: object) -> Config:
        entry = {"source": {"oci": "example/k"}, **more}
        return Config.model_validate({"kernels": {"6.1": entry}})

    plain = config().kernel("6.1")
    known = fingerprint(plain, "payload", {})
    expecting = plain.model_copy(
        update={
            "expect": Config.model_validate(
                {
                    "kernels": {"6.1": {"source": {"oci": "k"}}},
                    "expect": [{"test": "T", "reason": "known"}],
                }
            ).expect
        }
    )
    assert fingerprint(expecting, "payload", {}) == known
    assert fingerprint(plain, "another", {}) != known
    assert fingerprint(plain, "payload", {"env": {"A": "1"}}) != known
    assert fingerprint(config(qemu={"memory": "1G"}).kernel("6.1"), "payload", {}) != known
