"""The notices of what a wheel's programs are linked with, as one text."""

from pathlib import Path

from release.notices import Notice

from release import notices


def test_each_component_has_a_section() -> None:
    text = notices.to_text([Notice("zlib", "1.2", "of Z"), Notice("example.org/a", "v1", "of A\n")])
    assert notices.named(text) == {("zlib", "1.2"), ("example.org/a", "v1")}
    assert text.index("of A") < text.index("of Z")


def test_crates_and_modules_of_go_have_these_files(tmp_path: Path) -> None:
    names = ("LICENSE", "LICENSE-MIT", "COPYING.md", "NOTICE", "UNLICENSE", "copyright", "PATENTS")
    for name in (*names, "README.md", "licensing"):
        (tmp_path / name).write_text(f"<{name}>")
    (tmp_path / "LICENSES").mkdir()
    found = notices._texts(tmp_path)
    assert [name for name in names if f"<{name}>" not in found] == []
    assert "<README.md>" not in found
    assert "<licensing>" not in found
