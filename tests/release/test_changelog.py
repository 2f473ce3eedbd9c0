"""CHANGELOG.md: what is wrong with one, and what a release takes from it."""

import pytest

from release import changelog
from tests.tool import REPOSITORY

GOOD = """# Changes

## [Unreleased]

## [0.2.0] - 2026-03-01

Words about it.

### Added

- One, in
  two lines.

### Fixed

- Another.

## [0.1.0] - 2026-02-01

### Added

- The first.
"""


def test_ours_is_good() -> None:
    assert changelog.problems((REPOSITORY / "CHANGELOG.md").read_text()) == []


def test_a_good_one() -> None:
    assert changelog.problems(GOOD) == []
    assert changelog.problems(GOOD, "0.2.0") == []
    [unreleased, newest, oldest] = changelog.sections(GOOD)
    assert (unreleased.name, unreleased.date, unreleased.text) == ("Unreleased", "", "")
    assert (newest.name, newest.date, newest.line) == ("0.2.0", "2026-03-01", 5)
    assert newest.kinds == ["Added", "Fixed"]
    assert oldest.text == "### Added\n\n- The first."


def test_links_at_the_end_are_no_part_of_a_section() -> None:
    linked = f"{GOOD}\n[Unreleased]: https://example.org/a...b\n[0.1.0]: https://example.org/b\n"
    assert changelog.problems(linked) == []
    assert changelog.sections(linked) == changelog.sections(GOOD)
    alone = "## [Unreleased]\n\n[Unreleased]: https://example.org/a...b\n"
    assert changelog.sections(alone)[0].text == ""


def test_the_notes_of_a_version_are_its_section() -> None:
    notes = changelog.notes(GOOD, "0.2.0")
    assert notes.startswith("Words about it.\n\n### Added\n\n- One, in\n  two lines.\n")
    assert notes.endswith("- Another.")
    with pytest.raises(LookupError, match=r"no section \[0.3.0\]"):
        changelog.notes(GOOD, "0.3.0")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("## [Unreleased]\n", "", "the first section is not [Unreleased]"),
        ("[0.2.0] - 2026-03-01", "[0.2.0]", "line 5: [0.2.0]: '' is no date such as 2026-01-31"),
        ("2026-03-01", "2026-13-01", "line 5: [0.2.0]: '2026-13-01' is no date such as 2026-01-31"),
        ("2026-03-01", "2026-01-01", "line 5: [0.2.0] is above a section that is newer"),
        ("[0.2.0]", "[0.1.0]", "line 5: [0.1.0] is above a section that is newer"),
        ("[0.2.0]", "[soon]", "line 5: [soon]: 'soon' is no version"),
        (
            "## [0.2.0] - 2026-03-01",
            "## 0.2.0",
            "line 5: a section's heading is '## [1.2.3] - 2026-01-31', not '## 0.2.0'",
        ),
        (
            "### Fixed",
            "### Mended",
            "line 5: [0.2.0] has the heading 'Mended', which is none of Added, Changed, "
            "Deprecated, Removed, Fixed, Security",
        ),
        ("### Fixed", "### Added", "line 5: [0.2.0] has a heading twice: Added, Added"),
        (
            "## [0.1",
            "## [Unreleased]\n\n## [0.1",
            "line 18: [Unreleased] is also the section of line 3",
        ),
        (
            "### Fixed\n\n- Another.\n",
            "### Fixed\n",
            "line 5: [0.2.0] lists nothing below the heading 'Fixed'",
        ),
        (
            "- One, in\n  two lines.\n",
            "",
            "line 5: [0.2.0] lists nothing below the heading 'Added'",
        ),
        ("- The first.\n", "", "line 18: [0.1.0] lists nothing below the heading 'Added'"),
        ("### Added\n\n- The first.", "Nothing.", "line 18: [0.1.0] lists no changes"),
    ],
)
def test_a_fault_is_named(old: str, new: str, problem: str) -> None:
    text = GOOD.replace(old, new)
    assert text != GOOD
    assert problem in changelog.problems(text)


@pytest.mark.parametrize(
    ("text", "release", "problem"),
    [
        (GOOD, "0.3.0", "the newest section of a release is [0.2.0], and not [0.3.0]"),
        (
            GOOD.replace("[Unreleased]\n", "[Unreleased]\n\n### Added\n\n- More.\n"),
            "0.2.0",
            "[Unreleased] is not empty: move its changes to [0.2.0]",
        ),
        (
            "## [Unreleased]\n",
            "0.1.0",
            "the newest section of a release is none, and not [0.1.0]",
        ),
    ],
)
def test_what_is_not_ready_for_a_release_is_named(text: str, release: str, problem: str) -> None:
    assert changelog.problems(text) == []
    assert changelog.problems(text, release) == [problem]
