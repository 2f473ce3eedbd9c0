"""Time limits: longer under emulation, and what they became is said."""

from bpfmatrix.vm.limits import Limit, declared


def test_a_declared_limit_is_longer_under_emulation() -> None:
    limit = declared(60, "timeout.test", "tcg")
    assert limit.seconds == 600
    assert str(limit) == "600 s (timeout.test: 60 s, 10 times as long under emulation)"


def test_a_declared_limit_is_taken_as_it_is_with_kvm() -> None:
    limit = declared(60, "timeout.test", "kvm")
    assert (limit.seconds, str(limit)) == (60, "60 s (timeout.test)")


def test_an_option_is_taken_as_it_is() -> None:
    assert str(Limit(4, "--timeout")) == "4 s (--timeout)"
