"""The comparison with libbpf alone (benchmarks/against_libbpf): what it counts; that it runs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.against_libbpf.comparison import Class, compare

from tests.integration.bpfobjects import SOURCES, compile_object
from tests.tool import REPOSITORY

LOG = """\
0: R1=ctx() R10=fp0
0: (61) r0 = *(u32 *)(r1 +4000)
invalid bpf_context access off=4000 size=4
processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


def theirs(**answer: Any) -> dict[str, list[dict[str, Any]]]:
    return {"a.o": [{"program": "p", "loaded": False, **answer}]}


def ours(**result: Any) -> dict[str, Any]:
    common = {"object": "a.o", "program": "p", "outcome": "failed", "errno": "", "reason": ""}
    return {"programs": [{**common, **result}], "refused": []}


@pytest.mark.parametrize(
    ("libbpf", "verify", "kind"),
    [
        ({"loaded": True}, {"outcome": "passed"}, Class.BOTH_LOAD),
        ({"loaded": True}, {"code": "verifier-rejected"}, Class.ONLY_LIBBPF),
        ({"loaded": True}, {"outcome": "skipped", "code": "optional"}, Class.ONLY_LIBBPF),
        ({"errno": 22}, {"outcome": "passed"}, Class.ONLY_VERIFY),
        ({"errno": 22}, {"outcome": "passed", "reason": "without x"}, Class.ONLY_VERIFY_TOLD),
        ({"errno": 13, "log": LOG}, {"errno": "EACCES", "log_end": LOG}, Class.SAME_REASON),
        ({"errno": 13, "log": LOG}, {"errno": "EACCES", "log_end": "no"}, Class.OTHER_REASON),
        (
            {"errno": 22, "log": "old state: R0=map_value(map=7.bss,ks=4)"},
            {"reason": "old state: R0=map_value(map=loops.bss,ks=4)"},
            Class.SAME_REASON,
        ),
        ({"errno": 3}, {"errno": "ESRCH"}, Class.SAME_REASON),
        ({"errno": 3}, {"errno": "EINVAL"}, Class.OTHER_REASON),
        ({"errno": 524}, {"errno": "ENOTSUPP"}, Class.SAME_REASON),
        (
            {"errno": 9, "words": ["map 'm': failed to initialize slot [1] to prog 'q'"]},
            {"outcome": "passed"},
            Class.BOTH_LOAD,
        ),
        (
            {"errno": 22, "words": ["prog 'p': attach program FD is not set"]},
            {"errno": "ENOENT", "code": "attach-target-missing"},
            Class.SAME_REASON,
        ),
        (
            {"errno": 13, "words": ["libbpf: prog 'q': BPF program load failed: -EACCES"]},
            {"outcome": "passed"},
            Class.OTHER_PROGRAM,
        ),
        ({"ended": "signal 14"}, {"outcome": "passed"}, Class.UNKNOWN),
        ({"loaded": True}, {"outcome": "timeout", "code": "timeout"}, Class.UNKNOWN),
    ],
)
def test_each_pair_of_verdicts_has_its_class(
    libbpf: dict[str, Any], verify: dict[str, Any], kind: Class
) -> None:
    (found,) = compare(theirs(**libbpf), ours(**verify))
    assert found.kind is kind


def test_an_object_that_libbpf_cannot_open_is_compared_for_each_of_its_programs() -> None:
    answer = {"a.o": [{"errno": 95, "words": ["no such section\n"]}]}
    found = compare(answer, ours(errno="EOPNOTSUPP"))
    assert [(one.program, one.kind) for one in found] == [("p", Class.SAME_REASON)]
    assert found[0].libbpf == "EOPNOTSUPP: no such section"


@pytest.mark.integration
def test_libbpf_and_verify_agree_about_a_few_objects(tmp_path: Path) -> None:
    # calls, license and rejected load or are refused by the verifier, maps by maps that can't be
    # made, symbols by symbols that no kernel has.
    chosen = ("calls", "license", "maps", "rejected", "symbols")
    objects = tmp_path / "objects"
    objects.mkdir()
    for source in SOURCES:
        name = source.name.removesuffix(".bpf.c")
        if name in chosen:
            compile_object(source, objects / f"{name}.bpf.o")
    command = [sys.executable, "-m", "benchmarks.against_libbpf", str(objects)]
    done = subprocess.run(
        [*command, "--kernels", "6.12", "--folder", str(tmp_path / "folder")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    counts = {
        kind: int(match[1])
        for kind in Class
        if (match := re.search(rf"^{re.escape(kind)} +(\d+)$", done.stdout, re.M))
    }
    assert set(counts) == set(Class), done.stdout + done.stderr
    assert counts[Class.BOTH_LOAD] > 0
    assert counts[Class.SAME_REASON] > 0
    assert counts[Class.ONLY_VERIFY_TOLD] > 0
    assert counts[Class.ONLY_LIBBPF] == counts[Class.ONLY_VERIFY] == counts[Class.UNKNOWN] == 0
    assert done.returncode == 0, done.stdout
