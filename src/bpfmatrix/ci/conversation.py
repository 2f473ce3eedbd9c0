"""The comments of one pull request of GitHub, or one merge request of GitLab, by their REST APIs.

`of_job` finds in a job's environment which request the job is for. `keep_comment` writes a comment,
or replaces the one that an earlier job wrote, so that there is one however often jobs run. Comments
of others are left alone, even if they begin as ours do.

GitHub: docs.github.com/rest/issues/comments; a pull request's comments are those of its issue. A
job's GITHUB_TOKEN may not `GET /user`, but GraphQL's `viewer` answers it.
GitLab: docs.gitlab.com/api/notes, "Merge requests"; docs.gitlab.com/api/users, "current user".
"""

import enum
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bpfmatrix.errors import BpfmatrixError, UsageError

if TYPE_CHECKING:
    from requests import Response, Session

__all__ = ["Conversation", "Kept", "NoConversation", "keep_comment", "of_job"]

# The largest page that both APIs have.
_PAGE = 100
# GitHub takes 65,536 characters; the rest is for what is put around the text.
_LONGEST = 65_000
# What a token gets that may not write: that of a fork's pull request, or one without the scope.
_REFUSED = (401, 403, 404)


class Kept(enum.Enum):
    """What was done with the comment."""

    WRITTEN = "wrote the comment"
    REPLACED = "replaced the comment"
    SAME = "the comment is up to date"


class NoConversation(BpfmatrixError):
    """There is nothing to comment on, or no token that may do so: both are usual in CI."""


@dataclass(frozen=True)
class Conversation:
    """Where the comments of a request are, and what may write them."""

    name: str
    """For messages, such as `pull request 7`."""
    comments: str
    """The URL that lists the comments, and to which a new one is sent."""
    comment: str
    """The URL of a comment, with `{id}` in the place of its number."""
    replaces_by: Literal["PATCH", "PUT"]
    """The method that replaces a comment's text."""
    headers: Mapping[str, str]
    """The headers of each request, with the token."""
    user: str
    """The URL that says whose token it is."""
    author: tuple[str, str]
    """The keys of a comment under which its author's name is."""


def of_job(environ: Mapping[str, str]) -> Conversation:
    """Return the conversation that a job's environment names.

    NoConversation if the job is for no pull request or merge request, or if it has no token;
    UsageError if it is no job of GitHub or GitLab.
    """
    if environ.get("GITHUB_ACTIONS") == "true":
        return _of_github(environ)
    if environ.get("GITLAB_CI") == "true":
        return _of_gitlab(environ)
    raise UsageError(
        "this is no job of GitHub Actions or GitLab CI: GITHUB_ACTIONS and GITLAB_CI are not set",
        "Run ci.comment in such a job, for a pull request or a merge request.",
    )


def _of_github(environ: Mapping[str, str]) -> Conversation:
    number = _pull_request(environ.get("GITHUB_EVENT_PATH", ""))
    if number is None:
        raise NoConversation("this job is for no pull request, so there is no comment")
    token = environ.get("GITHUB_TOKEN")
    if not token:
        raise NoConversation(
            "GITHUB_TOKEN is not set, so there is no comment",
            "Give the step GITHUB_TOKEN: ${{ github.token }}.",
        )
    api = environ.get("GITHUB_API_URL", "https://api.github.com")
    issues = f"{api}/repos/{environ.get('GITHUB_REPOSITORY', '')}/issues"
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {token}",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    return Conversation(
        f"pull request {number}",
        f"{issues}/{number}/comments",
        f"{issues}/comments/{{id}}",
        "PATCH",
        headers,
        environ.get("GITHUB_GRAPHQL_URL", f"{api}/graphql"),
        ("user", "login"),
    )


def _pull_request(event: str) -> int | None:
    """Return the number in the event's file (docs: webhook events, `pull_request`)."""
    try:
        data = json.loads(Path(event).read_text(encoding="utf-8"))
        number = data["pull_request"]["number"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None


def _of_gitlab(environ: Mapping[str, str]) -> Conversation:
    number = environ.get("CI_MERGE_REQUEST_IID")
    if not number:
        raise NoConversation("this job is for no merge request, so there is no comment")
    token = environ.get("GITLAB_TOKEN")
    if not token:
        raise NoConversation(
            "GITLAB_TOKEN is not set, so there is no comment: CI_JOB_TOKEN may not write one",
            "Set it to a project access token with the scope api, as a masked variable.",
        )
    api = environ.get("CI_API_V4_URL", "")
    project = f"{api}/projects/{environ.get('CI_PROJECT_ID', '')}"
    notes = f"{project}/merge_requests/{number}/notes"
    headers = {"PRIVATE-TOKEN": token}
    return Conversation(
        f"merge request {number}",
        notes,
        f"{notes}/{{id}}",
        "PUT",
        headers,
        f"{api}/user",
        ("author", "username"),
    )


def keep_comment(conversation: Conversation, name: str, text: str) -> Kept:
    """Write the comment that has this name, or replace its text.

    The name is in the comment, where the page does not show it. NoConversation if the token may
    not write; BpfmatrixError if the server can't be reached, or answers with another error.
    """
    from requests import RequestException, Session  # noqa: PLC0415 - slow to import

    from bpfmatrix.host.download import prepare, reason  # noqa: PLC0415

    mark = f"<!-- bpfmatrix: {name} -->"
    body = f"{mark}\n{_shortened(text)}"
    try:
        with prepare(Session()) as session:
            session.headers.update(conversation.headers)
            return _keep(session, conversation, mark, body)
    except RequestException as error:
        raise BpfmatrixError(
            f"the comments of {conversation.name} can't be reached: {reason(error)}",
            f"The URL was {conversation.comments}. Run the job again.",
        ) from error


def _keep(session: "Session", conversation: Conversation, mark: str, body: str) -> Kept:
    me = None
    for known in _comments(session, conversation):
        if not str(known.get("body", "")).startswith(mark):
            continue
        me = me or _name_of_token(session, conversation)
        person, name = conversation.author
        # GitHub has no user for a comment whose author's account was deleted.
        if (known.get(person) or {}).get(name) != me:
            continue
        if known["body"].strip() == body.strip():
            return Kept.SAME
        url = conversation.comment.format(id=known["id"])
        answer = session.request(conversation.replaces_by, url, json={"body": body})
        # It may have been deleted since, or be locked; then a new one is written.
        if answer.status_code not in _REFUSED:
            _check(answer)
            return Kept.REPLACED
    _check(session.post(conversation.comments, json={"body": body}))
    return Kept.WRITTEN


def _name_of_token(session: "Session", conversation: Conversation) -> str:
    """Return the name that comments have which this token writes, such as github-actions[bot]."""
    if conversation.user.endswith("/graphql"):
        query = {"query": "query { viewer { login } }"}
        answer = _check(session.post(conversation.user, json=query)).json()
        return str(answer["data"]["viewer"]["login"])
    return str(_check(session.get(conversation.user)).json()["username"])


def _comments(session: "Session", conversation: Conversation) -> Iterator[dict[str, Any]]:
    number = 1
    while True:
        asked = {"per_page": _PAGE, "page": number}
        page = _check(session.get(conversation.comments, params=asked)).json()
        yield from page
        if len(page) < _PAGE:
            return
        number += 1


def _check(response: "Response") -> "Response":
    if response.ok:
        return response
    what = (
        f"{response.request.method} {response.url.partition('?')[0]}: HTTP {response.status_code}"
    )
    if response.status_code in _REFUSED:
        raise NoConversation(
            f"the token may not write a comment ({what})",
            "For a fork's pull request this is so by design. Otherwise give the job "
            "`pull-requests: write`, or on GitLab a token with the scope api.",
        )
    raise BpfmatrixError(f"the comment could not be written: {what}", "Run the job again.")


def _shortened(text: str) -> str:
    """Return a text that fits into a comment: whole lines, and that the rest is left out."""
    if len(text) <= _LONGEST:
        return text
    kept = text[:_LONGEST].rpartition("\n")[0]
    return f"{kept}\n\n(The rest does not fit into a comment.)"
