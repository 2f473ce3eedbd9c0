"""What loader-libbpf answers to requests that need no kernel: it opens objects, on this machine."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.host.cache import Cache
from bpfmatrix.payload.loaders import libbpf_loader
from tests.integration.bpfobjects import SOURCES, compile_object

pytestmark = pytest.mark.integration

NAMES = ("constants", "optional", "relocations", "tailcalls", "types")


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("loader") / "loader-libbpf"
    libbpf_loader.build(os.uname().machine, Cache.default(), made)
    made.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("objects")
    made = {name: folder / f"{name}.bpf.o" for name in NAMES}
    for source in SOURCES:
        if (target := made.get(source.name.removesuffix(".bpf.c"))) is not None:
            compile_object(source, target)
    return made


def run(loader: Path, sent: str) -> "subprocess.CompletedProcess[str]":
    """Run the loader with these requests; its replies, which go to descriptor 3, are the output."""
    words = ["sh", "-c", 'exec "$0" 3>&1 >&2', str(loader)]
    return subprocess.run(
        words, check=False, input=sent, capture_output=True, text=True, timeout=60
    )


def ask(loader: Path, **request: Any) -> dict[str, Any]:
    """Return the reply to a request that follows `start`."""
    requests = [{"request": "start", "objects": []}, {"request": "open", **request}]
    done = run(loader, "".join(json.dumps(each) + "\n" for each in requests))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    started, reply = map(json.loads, done.stdout.splitlines())
    assert started == {"loader": "libbpf", "version": "1.8", "done": True}
    assert reply["done"] is True
    assert isinstance(reply, dict)
    return reply


def test_programs_are_listed_by_section(loader: Path, objects: dict[str, Path]) -> None:
    reply = ask(loader, object=str(objects["optional"]))
    listed = [(p["name"], p["section"], p["optional"]) for p in reply["programs"]]
    assert listed == [
        ("optional_and_fails", "?fentry/there_is_no_such_function", True),
        ("optional_and_loads", "?raw_tp/sys_enter", True),
        ("declared_optional", "fentry/there_is_no_other_function", False),
        ("sum_by_loop", "raw_tp/sys_enter", False),
        ("sum_by_hand", "raw_tp/sys_enter", False),
    ]
    first, last = reply["programs"][0], reply["programs"][-1]
    assert (first["type"], first["attach_to"]) == ("tracing", "there_is_no_such_function")
    assert (last["type"], last["attach_to"]) == ("raw_tracepoint", "sys_enter")


def test_a_type_comes_from_the_section_or_from_a_caller(
    loader: Path, objects: dict[str, Path]
) -> None:
    types = {p["name"]: p["type"] for p in ask(loader, object=str(objects["types"]))["programs"]}
    assert types["unknown_type"] == ""
    assert types["type_syscall"] == "syscall"
    tails = ask(loader, object=str(objects["tailcalls"]))["programs"]
    assert {p["type"] for p in tails} == {"raw_tracepoint"}


def test_values_and_sizes_that_the_object_has_are_named(
    loader: Path, objects: dict[str, Path]
) -> None:
    values = {"number": "42", "hidden": "0x1234567890", "text": "hi", "list": "1, 2,3", "none": "1"}
    sizes = {"sized": 100, "none": 1}
    reply = ask(loader, object=str(objects["constants"]), set=values, map_sizes=sizes)
    assert sorted(reply["set"]) == ["hidden", "list", "number", "text"]
    assert reply["map_sizes"] == ["sized"]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("number", "many", "expected an unsigned number"),
        ("number", "-1", "expected an unsigned number"),
        ("number", "0x100000000", "expected an unsigned number of 32 bits"),
        ("number", "1 2", "expected an unsigned number"),
        ("number", "", "expected an unsigned number"),
        ("negative", "32768", "expected a number of 16 bits"),
        ("negative", "-32769", "expected a number of 16 bits"),
        ("flag", "2", "expected true or false"),
        ("text", "eight and more", "it has room for 8"),
        ("list", "1,2,3,4", "it has room for 3"),
        ("list", "1,,3", "expected an unsigned number"),
        ("hidden", "0x10000000000000000", "expected an unsigned number of 64 bits"),
    ],
)
def test_a_value_that_can_not_be_is_refused(
    loader: Path, objects: dict[str, Path], name: str, value: str, why: str
) -> None:
    reply = ask(loader, object=str(objects["constants"]), set={name: value})
    assert reply == {"usage": f"--set {name}={value}: {why}", "done": True}


@pytest.mark.parametrize("value", ["-32768", "32767", "0x7fff"])
def test_the_smallest_and_the_largest_values_are_taken(
    loader: Path, objects: dict[str, Path], value: str
) -> None:
    reply = ask(loader, object=str(objects["constants"]), set={"negative": value})
    assert reply["set"] == ["negative"]


@pytest.mark.parametrize(
    ("content", "errno", "words"),
    [
        (b"", "EINVAL", "the file can't be opened: it is empty"),
        (b"text\n", "LIBBPF_ERRNO__FORMAT", "is not a proper ELF object"),
        (b"\x7fELF\x02", "LIBBPF_ERRNO__FORMAT", "is not a proper ELF object"),
        (b"\x7fELF\x02\x02" + bytes(60), "LIBBPF_ERRNO__ENDIAN", "non-native endianness"),
    ],
)
def test_a_file_that_is_no_object_is_a_failure(
    loader: Path, tmp_path: Path, content: bytes, errno: str, words: str
) -> None:
    broken = tmp_path / "broken.o"
    broken.write_bytes(content)
    failure = ask(loader, object=str(broken))["failure"]
    assert (failure["step"], failure["errno"]) == ("open", errno)
    assert words in failure["words"][0]


def test_a_file_that_is_not_there_is_a_failure(loader: Path, tmp_path: Path) -> None:
    failure = ask(loader, object=str(tmp_path / "none.o"))["failure"]
    assert (failure["step"], failure["errno"]) == ("open", "ENOENT")
    assert failure["words"] == ["the file can't be read: ENOENT"]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_file_that_was_cut_off_crashes_nothing(
    loader: Path, objects: dict[str, Path], tmp_path: Path, cut: int
) -> None:
    content = objects["tailcalls"].read_bytes()
    part = tmp_path / "part.o"
    part.write_bytes(content[: len(content) * cut // 8])
    assert ask(loader, object=str(part))["failure"]["step"] == "open"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no JSON", "a request that is none"),
        ('{"request": "dance"}', "an unknown request: dance"),
        ('{"request": "load", "program": "x"}', "no object is open"),
    ],
)
def test_what_is_no_request_ends_the_loader(loader: Path, line: str, words: str) -> None:
    done = run(loader, line + "\n")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""
