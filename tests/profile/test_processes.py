"""What is said of processes that were not sampled."""

from bpfmatrix.profile.processes import notes


def test_sampled_processes_are_not_mentioned() -> None:
    assert notes([]) == []
    assert notes([{"pid": 1, "name": "a.py", "python": "3.11"}]) == []


def test_processes_without_python_are_counted_and_named_once() -> None:
    assert notes([{"pid": 1, "name": "sort"}]) == [
        "1 process in which no Python was found before it ended: sort"
    ]
    processes = [{"pid": n, "name": name} for n, name in enumerate(["sort", "sort (2)", *"abcdef"])]
    assert notes(processes) == [
        "8 processes in which no Python was found before they ended: sort, a, b, c, d, 2 more"
    ]


def test_a_refusal_is_said() -> None:
    processes = [
        {"pid": 1, "name": "b.py", "refusal": "it is 3.7"},
        {"pid": 2, "name": "c.py", "refusal": "it is 3.7"},
    ]
    assert notes(processes) == ["not sampled: b.py, c.py: it is 3.7"]
