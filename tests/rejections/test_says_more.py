"""Whether a failed test says anything besides the program that did not load."""

from bpfmatrix.rejections.printed import says_more

_LOAD = "field OnExec: program on_exec: load program: permission denied: R0 invalid mem access 'x'"


def test_an_assertion_of_testify_says_nothing_else() -> None:
    output = (
        "=== RUN   TestCounter\n"
        "    counter_test.go:20: \n"
        "        \tError Trace:\t/src/counter_test.go:20\n"
        "        \tError:      \tReceived unexpected error:\n"
        f"        \t            \t{_LOAD}\n"
        "        \tTest:       \tTestCounter\n"
        "[   13.948944] EXT4-fs (vda): mounted filesystem without journal. Opts: (null)\n"
        "--- FAIL: TestCounter (0.07s)\n"
    )
    assert not says_more(f"Received unexpected error: {_LOAD}", output)


def test_our_own_tests_say_nothing_else() -> None:
    said = [
        "rejected: program on_sample of stack_sampler.bpf.o: permission denied",
        "rejected: ebpf/stack_sampler.bpf.c:85: __sync_fetch_and_add(&count->samples, 1);",
        "rejected: R0 invalid mem access 'map_value_or_null'",
        "----- verifier log: on_sample -----",
        *(f"{number}: (bf) r1 = r{number}" for number in range(6)),
        "R0 invalid mem access 'map_value_or_null'",
        "----- end of verifier log -----",
    ]
    output = "=== RUN   TestX\n    x_test.go:59: " + "\n        ".join(said) + "\n--- FAIL: TestX\n"
    reason = "; ".join(said[:5]) + " ..."
    assert not says_more(reason, output)
    assert says_more(reason, output + "    x_test.go:70: got 3 events, want 4\n")


def test_another_assertion_is_more() -> None:
    output = f"    x_test.go:20: {_LOAD}\n    x_test.go:31: got 3 events, want 4\n"
    assert says_more(_LOAD, output)
    assert says_more("got 3 events, want 4", f"    x_test.go:20: {_LOAD}\n")
