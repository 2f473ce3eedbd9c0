import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfmatrix.config import kernels_lock
from bpfmatrix.config.kernels_lock import FILE_NAME, Package, Pin
from bpfmatrix.errors import BpfmatrixError, ConfigError

PIN = Pin(
    arch="x86_64",
    source={"apt": {"suite": "bookworm-security"}},
    version="6.1.190",
    release="6.1.0-55-cloud-amd64",
    digest=f"sha256:{'1' * 64}",
    files=f"sha256:{'2' * 64}",
    origin="apt bookworm-security",
    vendor="Debian",
    packages=(Package("linux-image-6.1.0-55-cloud-amd64", "6.1.190-1", "3" * 64),),
)
NEWER = replace(PIN, version="6.1.192", digest=f"sha256:{'4' * 64}", files=f"sha256:{'5' * 64}")


def refused(root: Path, text: str) -> ConfigError:
    (root / FILE_NAME).write_text(text)
    with pytest.raises(ConfigError) as raised:
        kernels_lock.read(root)
    return raised.value


def test_without_a_file_nothing_is_pinned(tmp_path: Path) -> None:
    assert not kernels_lock.exists(tmp_path)
    assert kernels_lock.read(tmp_path) == {}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pins = {"6.12": NEWER, "5.4.276": PIN, "5.10": PIN, "6.1-arm64": replace(PIN, arch="aarch64")}
    kernels_lock.write(tmp_path, pins)
    assert kernels_lock.read(tmp_path) == pins
    assert list(kernels_lock.read(tmp_path)) == ["5.4.276", "5.10", "6.1-arm64", "6.12"]
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    before = (tmp_path / FILE_NAME).read_bytes()
    kernels_lock.write(tmp_path, dict(reversed(pins.items())))
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_nothing_is_written_that_can_not_be_read(tmp_path: Path) -> None:
    kernels_lock.write(tmp_path, {"6.1": PIN})
    with pytest.raises(BpfmatrixError, match=r"kernels\.6\.1\.origin: expected a text of one line"):
        kernels_lock.write(tmp_path, {"6.1": replace(PIN, origin="directory a\nb")})
    assert kernels_lock.read(tmp_path) == {"6.1": PIN}


def test_git_merges_changes_of_neighbours(tmp_path: Path) -> None:
    ids = ("5.10", "6.1", "6.12")
    texts: dict[str, Path] = {}
    for name, changed in {"base": (), "ours": ("5.10", "6.12"), "theirs": ("6.1",)}.items():
        kernels_lock.write(tmp_path, {id: NEWER if id in changed else PIN for id in ids})
        texts[name] = (tmp_path / FILE_NAME).rename(tmp_path / name)
    merge = ["git", "merge-file", "-p", *(str(texts[n]) for n in ("ours", "base", "theirs"))]
    done = subprocess.run(merge, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (tmp_path / FILE_NAME).write_text(done.stdout)
    assert kernels_lock.read(tmp_path) == dict.fromkeys(ids, NEWER)


def test_a_conflict_is_named(tmp_path: Path) -> None:
    texts: list[Path] = []
    for pin in (PIN, NEWER, replace(PIN, digest=f"sha256:{'6' * 64}")):
        kernels_lock.write(tmp_path, {"6.1": pin})
        texts.append((tmp_path / FILE_NAME).rename(tmp_path / str(len(texts))))
    merge = ["git", "merge-file", "-p", *(str(texts[number]) for number in (1, 0, 2))]
    merged = subprocess.run(merge, capture_output=True, text=True, check=False).stdout
    line = next(n for n, text in enumerate(merged.splitlines(), 1) if text.startswith("<<<"))
    error = refused(tmp_path, merged)
    assert error.what == (
        f"kernels.lock: line {line}: the file has the conflict markers of a git merge"
    )
    assert "git checkout --ours kernels.lock" in error.advice


def _set(*path: str | int, to: Any) -> Callable[[Any], None]:
    def edit(data: Any) -> None:
        for part in path[:-1]:
            data = data[part]
        data[path[-1]] = to

    return edit


def _remove(*path: str | int) -> Callable[[Any], None]:
    def edit(data: Any) -> None:
        for part in path[:-1]:
            data = data[part]
        del data[path[-1]]

    return edit


ENTRY = ("kernels", "6.1")


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (_set("format", to=0), "format: expected 1, found 0"),
        (_set("format", to=True), "format: expected 1, found True"),
        (_set("format", to=1.0), "format: expected 1, found 1.0"),
        (_remove("format"), "format: expected 1, found None"),
        (_set("kernel", to={}), 'kernel: unknown key (did you mean "kernels"?)'),
        (_set("kernels", to=[]), "kernels: expected a mapping"),
        (_set(*ENTRY, to="6.1.190"), "kernels.6.1: expected a mapping"),
        (
            _set(*ENTRY, "digset", to="sha256:00"),
            'kernels.6.1.digset: unknown key (did you mean "digest"?)',
        ),
        (_remove(*ENTRY, "files"), "kernels.6.1.files: the key is missing"),
        (
            _set(*ENTRY, "digest", to="sha256:12"),
            "kernels.6.1.digest: expected a digest: sha256: and 64 digits of 0-9 and a-f",
        ),
        (_set(*ENTRY, "arch", to="vax"), "kernels.6.1.arch: expected "),
        (_set(*ENTRY, "version", to=6.1), "kernels.6.1.version: expected a text"),
        (_set(*ENTRY, "version", to=""), "kernels.6.1.version: expected a text of one line"),
        (_set(*ENTRY, "version", to="6\x9b2J"), "kernels.6.1.version: expected a text of one line"),
        (_set(*ENTRY, "vendor", to="a\u2028b"), "kernels.6.1.vendor: expected a text of one line"),
        (_set(*ENTRY, "release", to="../../x"), "kernels.6.1.release: expected a release"),
        (
            _set(*ENTRY, "packages", 0, "sha256", to=""),
            "kernels.6.1.packages.0.sha256: expected a SHA-256: 64 digits of 0-9 and a-f",
        ),
        (_set(*ENTRY, "origin", to="a\x1b[2Jb"), "kernels.6.1.origin: expected a text of one line"),
        (_set(*ENTRY, "source", to="apt"), "kernels.6.1.source: expected a mapping"),
        (_set(*ENTRY, "packages", to=[]), "kernels.6.1.packages: expected a list with at least"),
        (
            _set(*ENTRY, "packages", 0, "sha256", to="F" * 64),
            "kernels.6.1.packages.0.sha256: expected a SHA-256: 64 digits of 0-9 and a-f",
        ),
    ],
)
def test_an_edited_file_is_one_sentence_with_the_key(
    tmp_path: Path, edit: Callable[[Any], None], what: str
) -> None:
    data = {"format": 1, "kernels": {"6.1": json.loads(json.dumps(asdict(PIN)))}}
    (tmp_path / FILE_NAME).write_text(json.dumps(data))
    assert kernels_lock.read(tmp_path) == {"6.1": PIN}
    edit(data)
    error = refused(tmp_path, json.dumps(data))
    assert error.what.startswith(f"kernels.lock: {what}")
    assert error.exit_status == 2
    assert error.advice == (
        "Restore it from git; or remove kernels.lock, and `invoke kernels.update` writes it again."
    )


def test_a_file_of_a_newer_version_asks_for_that(tmp_path: Path) -> None:
    error = refused(tmp_path, '{"format": 2, "sources": []}')
    assert error.what == "kernels.lock: format: expected 1, found 2: a newer bpfmatrix wrote it"
    assert error.advice == "Update bpfmatrix."


def test_a_source_tree_has_no_checksum(tmp_path: Path) -> None:
    tree = replace(PIN, source={"build": {"version": "6.1.7"}}, packages=(Package("t", "6.1", ""),))
    kernels_lock.write(tmp_path, {"6.1": tree})
    assert kernels_lock.read(tmp_path) == {"6.1": tree}


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    kernels_lock.write(tmp_path, {"6.1": PIN})
    path = tmp_path / FILE_NAME
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert kernels_lock.read(tmp_path) == {"6.1": PIN}


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / FILE_NAME).symlink_to("shared/k.lock")
    for pin in (PIN, NEWER):
        kernels_lock.write(tmp_path, {"6.1": pin})
        assert (tmp_path / FILE_NAME).readlink() == Path("shared/k.lock")
        assert kernels_lock.read(tmp_path) == {"6.1": pin}
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["k.lock"]


def test_a_file_that_is_no_json_is_one_sentence_with_the_line(tmp_path: Path) -> None:
    kernels_lock.write(tmp_path, {"6.1": PIN})
    text = (tmp_path / FILE_NAME).read_text()
    error = refused(tmp_path, text.replace('"version": "6.1.190",', '"version": "6.1.190"'))
    next_line = text.partition('"version"')[0].count("\n") + 2
    assert error.what == f"kernels.lock: line {next_line}: Expecting ',' delimiter"
    kernels = text[text.index('"6.1"') : text.rindex("}\n}")]
    both = text.replace(kernels, f"{kernels.rstrip()},\n    {kernels}")
    assert refused(tmp_path, both).what == "kernels.lock: duplicate key '6.1'"
    assert refused(tmp_path, "").what.startswith("kernels.lock: line 1: ")
    assert "can't be read as JSON" in refused(tmp_path, '{"format": ' + "1" * 5000 + "}").what
    (tmp_path / FILE_NAME).write_bytes(b'{"\xff": 1}')
    with pytest.raises(ConfigError, match="can't be read"):
        kernels_lock.read(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(key=st.sampled_from([*asdict(PIN), "packages.name", "packages.version"]), value=JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_whatever_is_in_it_there_is_a_pin_or_an_error(tmp_path: Path, key: str, value: Any) -> None:
    entry = json.loads(json.dumps(asdict(PIN)))
    first, _, rest = key.partition(".")
    if rest:
        entry["packages"][0][rest] = value
    else:
        entry[first] = value
    text = json.dumps({"format": 1, "kernels": {"6.1": entry}})
    (tmp_path / FILE_NAME).write_text(text)
    try:
        pin, refusal = kernels_lock.read(tmp_path)["6.1"], ""
    except ConfigError as error:
        pin, refusal = PIN, error.what
    if refusal:
        assert refusal.startswith(f"kernels.lock: kernels.6.1.{first}")
    kernels_lock.write(tmp_path, {"6.1": pin})
    assert kernels_lock.read(tmp_path) == {"6.1": pin}
