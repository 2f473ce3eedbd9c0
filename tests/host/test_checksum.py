import subprocess
from pathlib import Path

from bpfmatrix.host.checksum import RunningSha256, key_of, sha256, sha256_of


def test_all_agree_with_sha256sum(tmp_path: Path) -> None:
    content = "päckchen\n" * 100_000
    path = tmp_path / "file"
    path.write_text(content, encoding="utf-8")
    said = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
    expected = said.split()[0]
    assert sha256_of(path) == sha256(content) == sha256(content.encode()) == expected
    running = RunningSha256(content[:7].encode())
    running.update(content[7:].encode())
    assert running.hexdigest() == expected


def test_a_key_tells_values_apart() -> None:
    values = ([1, "a"], ["1", "a"], [[1], "a"], [1, ["a"]], [1, "a", None])
    assert len({key_of(value) for value in values}) == len(values)
    assert key_of({"a": 1}) == sha256('{"a": 1}')
