"""A server on loopback with the comments of GitHub's and GitLab's REST APIs."""

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

BOT = "github-actions[bot]"
"""The name of who owns the job's token."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        forge, url = self._forge(), urlsplit(self.path)
        if url.path == "/api/v4/user":
            return self._answer(200, {"username": BOT})
        query = {key: int(value[0]) for key, value in parse_qs(url.query).items()}
        first = (query.get("page", 1) - 1) * query.get("per_page", 30)
        return self._answer(200, forge.comments[first : first + query.get("per_page", 30)])

    def do_POST(self) -> None:
        forge = self._forge()
        if self.path == "/graphql":
            self.rfile.read(int(self.headers["Content-Length"]))
            return self._answer(200, {"data": {"viewer": {"login": BOT}}})
        if self.path != forge.list_path or not forge.may_write:
            return self._answer(403, {"message": "Resource not accessible by integration"})
        body = self._body()
        return self._answer(201, forge.add(body))

    def do_PATCH(self) -> None:
        forge = self._forge()
        found = re.fullmatch(forge.item_path.format(id=r"(\d+)"), self.path)
        comment = next((c for c in forge.comments if found and c["id"] == int(found[1])), None)
        if comment is None or forge.locked or self.command != forge.replaces_by:
            return self._answer(404, {"message": "Not Found"})
        comment["body"] = self._body()
        return self._answer(200, comment)

    do_PUT = do_PATCH

    def _forge(self) -> "Forge":
        forge: Forge = self.server.forge  # type: ignore[attr-defined]
        forge.requests.append(f"{self.command} {self.path}")
        forge.headers.append({name.lower(): value for name, value in self.headers.items()})
        return forge

    def _body(self) -> str:
        length = int(self.headers["Content-Length"])
        return str(json.loads(self.rfile.read(length))["body"])

    def _answer(self, status: int, data: Any) -> None:
        text = json.dumps(data).encode()
        self.send_response(self._forge_status() or status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _forge_status(self) -> int:
        forge: Forge = self.server.forge  # type: ignore[attr-defined]
        return forge.status

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Forge:
    """The comments of one request. Use it as a context manager, which serves it."""

    list_path: str
    item_path: str
    replaces_by: str
    comments: list[dict[str, Any]] = field(default_factory=list)
    may_write: bool = True
    locked: bool = False
    """Whether no comment can be changed."""
    status: int = 0
    """An HTTP status that answers everything, if it is not 0."""
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request, by their names in lower case."""

    def add(self, body: str, author: str = BOT) -> dict[str, Any]:
        of = {"user": {"login": author}, "author": {"username": author}}
        self.comments.append({"id": 1000 + len(self.comments), "body": body, **of})
        return self.comments[-1]

    def __enter__(self) -> "Forge":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.forge = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


def github() -> Forge:
    issues = "/repos/you/project/issues"
    return Forge(f"{issues}/7/comments", f"{issues}/comments/{{id}}", "PATCH")


def github_job(forge: Forge, folder: Path, event: object = None) -> dict[str, str]:
    """The environment of a job that GitHub runs for pull request 7."""
    file = folder / "event.json"
    file.write_text(json.dumps({"pull_request": {"number": 7}} if event is None else event))
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": forge.url,
        "GITHUB_REPOSITORY": "you/project",
        "GITHUB_EVENT_PATH": str(file),
        "GITHUB_TOKEN": "secret",
    }


def gitlab() -> Forge:
    notes = "/api/v4/projects/42/merge_requests/7/notes"
    return Forge(notes, f"{notes}/{{id}}", "PUT")


def gitlab_job(forge: Forge) -> dict[str, str]:
    """The environment of a job that GitLab runs for merge request 7."""
    return {
        "GITLAB_CI": "true",
        "CI_API_V4_URL": f"{forge.url}/api/v4",
        "CI_PROJECT_ID": "42",
        "CI_MERGE_REQUEST_IID": "7",
        "GITLAB_TOKEN": "secret",
    }
