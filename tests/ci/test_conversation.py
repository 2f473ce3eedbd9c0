"""Comments on pull requests and merge requests, of a server with the same APIs on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfmatrix.ci.conversation import Kept, NoConversation, keep_comment, of_job
from bpfmatrix.errors import BpfmatrixError, UsageError
from tests.ci.forge import Forge, github, github_job, gitlab, gitlab_job


@pytest.fixture(params=["GitHub", "GitLab"])
def on(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Forge, dict[str, str]]]:
    with github() if request.param == "GitHub" else gitlab() as forge:
        job = github_job(forge, tmp_path) if request.param == "GitHub" else gitlab_job(forge)
        yield forge, job


def test_a_comment_is_written_once_and_then_replaced(on: tuple[Forge, dict[str, str]]) -> None:
    forge, job = on
    others = [forge.add(f"comment {number} of a person") for number in range(100)]
    before = [dict(other) for other in others]
    assert keep_comment(of_job(job), "comparison", "+12 %") is Kept.WRITTEN
    assert keep_comment(of_job(job), "comparison", "+12 %") is Kept.SAME
    assert keep_comment(of_job(job), "comparison", "+3 %\n") is Kept.REPLACED
    # It is found on the second page, behind the comments of persons.
    assert [one["body"] for one in forge.comments[100:]] == [
        "<!-- bpfmatrix: comparison -->\n+3 %\n"
    ]
    assert forge.comments[:100] == before
    assert {one.get("authorization") or one.get("private-token") for one in forge.headers} <= {
        "Bearer secret",
        "secret",
    }


def test_comments_of_other_names_are_left_alone(on: tuple[Forge, dict[str, str]]) -> None:
    forge, job = on
    for name in ("amd64", "arm64", "amd64"):
        keep_comment(of_job(job), name, f"of {name}")
    assert [one["body"].splitlines()[1] for one in forge.comments] == ["of amd64", "of arm64"]


def test_comments_of_other_people_are_left_alone(on: tuple[Forge, dict[str, str]]) -> None:
    forge, job = on
    quoted = forge.add("<!-- bpfmatrix: amd64 -->\nquoted by a person", author="ada")
    forge.add("<!-- bpfmatrix: amd64 -->\nof a deleted account")
    forge.comments[1].update(user=None, author=None)
    before = [dict(one) for one in forge.comments]
    assert keep_comment(of_job(job), "amd64", "one") is Kept.WRITTEN
    assert keep_comment(of_job(job), "amd64", "two") is Kept.REPLACED
    assert forge.comments[:2] == before
    assert quoted["body"].endswith("quoted by a person")
    assert [one["body"].splitlines()[1] for one in forge.comments[2:]] == ["two"]


def test_in_place_of_a_comment_that_can_not_be_replaced_there_is_a_new_one(
    on: tuple[Forge, dict[str, str]],
) -> None:
    forge, job = on
    keep_comment(of_job(job), "amd64", "one")
    forge.locked = True
    assert keep_comment(of_job(job), "amd64", "two") is Kept.WRITTEN
    assert [one["body"].splitlines()[1] for one in forge.comments] == ["one", "two"]


def test_a_token_that_may_not_write_is_no_failure(on: tuple[Forge, dict[str, str]]) -> None:
    forge, job = on
    forge.may_write = False
    with pytest.raises(NoConversation, match="may not write") as caught:
        keep_comment(of_job(job), "comparison", "text")
    assert "secret" not in str(caught.value)


def test_a_server_that_fails_is_an_error(on: tuple[Forge, dict[str, str]]) -> None:
    forge, job = on
    forge.status = 422
    with pytest.raises(BpfmatrixError, match="HTTP 422") as caught:
        keep_comment(of_job(job), "comparison", "text")
    assert not isinstance(caught.value, NoConversation)


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with github() as forge:
        job = github_job(forge, tmp_path)
    with pytest.raises(BpfmatrixError, match="can't be reached"):
        keep_comment(of_job(job), "comparison", "text")


def test_a_long_text_is_cut_at_a_line(on: tuple[Forge, dict[str, str]]) -> None:
    forge, job = on
    keep_comment(of_job(job), "comparison", "| a line of a table |\n" * 10_000)
    lines = forge.comments[0]["body"].splitlines()
    assert len(forge.comments[0]["body"]) < 65_536  # GitHub's limit
    assert set(lines[1:-2]) == {"| a line of a table |"}
    assert "does not fit" in lines[-1]


@pytest.mark.parametrize(
    ("event", "missing", "says"),
    [
        ({"ref": "refs/heads/main"}, "", "no pull request"),
        ([], "", "no pull request"),
        (None, "GITHUB_EVENT_PATH", "no pull request"),
        (None, "GITHUB_TOKEN", "GITHUB_TOKEN is not set"),
    ],
)
def test_a_job_of_github_without_a_conversation(
    tmp_path: Path, event: object, missing: str, says: str
) -> None:
    with github() as forge:
        job = github_job(forge, tmp_path, event)
    job.pop(missing, None)
    with pytest.raises(NoConversation, match=says):
        of_job(job)


@pytest.mark.parametrize(
    ("missing", "says"),
    [("CI_MERGE_REQUEST_IID", "no merge request"), ("GITLAB_TOKEN", "CI_JOB_TOKEN may not")],
)
def test_a_job_of_gitlab_without_a_conversation(missing: str, says: str) -> None:
    with gitlab() as forge:
        job = gitlab_job(forge)
    del job[missing]
    with pytest.raises(NoConversation, match=says):
        of_job(job)


def test_outside_of_ci() -> None:
    with pytest.raises(UsageError, match="no job of GitHub Actions or GitLab CI"):
        of_job({})
