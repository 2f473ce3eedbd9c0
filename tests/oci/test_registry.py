"""What a registry may answer, and what that means: to a client whose session is replaced.

No real registry answers like this. Each test gives the responses, and tells what was asked for.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError
from bpfmatrix.host import download
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.oci import manifests, publishing
from bpfmatrix.oci.layout import LayoutFolder
from bpfmatrix.oci.manifests import INDEXES, MANIFEST, MANIFESTS, Descriptor
from bpfmatrix.oci.reference import LayoutName, Reference, repository
from bpfmatrix.oci.registry import RegistryClient

DEEP = b"[" * 100_000
BLOB = Descriptor.to("application/octet-stream", b"data")


@dataclass
class Answers:
    """The answers of a registry in their order; the last one is given again and again."""

    answers: list[tuple[int, dict[str, str], bytes]]
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def request(self, method: str, url: str, **given: Any) -> requests.Response:
        self.asked.append((method, url, given["headers"]))
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        response = requests.Response()
        response.status_code, response.url = status, url
        response.headers = CaseInsensitiveDict(headers)
        response.raw = urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)
        response.request = requests.Request(method, url).prepare()
        return response


def client_with(
    *answers: tuple[int, dict[str, str], bytes], url: str = "r.example/k"
) -> tuple[RegistryClient, Answers]:
    client = RegistryClient(Reference.parse(url), may_push=True)
    given = Answers(list(answers))
    client._registry.session.request = given.request
    return client, given


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_BACKOFF_SECONDS", 0)


@pytest.mark.parametrize(
    ("answer", "ask"),
    [
        ((200, {}, DEEP), lambda client: client.tags()),
        (
            (200, {"Link": '<http://[x>; rel="next"'}, b'{"tags": []}'),
            lambda client: client.tags(),
        ),
        ((418, {}, DEEP), lambda client: client.tags()),
        ((202, {"Location": "http://[bad"}, b""), lambda client: client._upload("POST", "x")),
        ((416, {}, b""), lambda client: client.read(MANIFEST, "1", "")),
    ],
)
def test_an_answer_that_makes_no_sense(
    answer: tuple[int, dict[str, str], bytes], ask: Callable[[RegistryClient], object]
) -> None:
    client, _ = client_with(answer)
    with pytest.raises(KernelUnavailableError):
        ask(client)


def test_a_token_that_can_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    challenge = {"Www-Authenticate": 'Bearer realm="http://r.example/token",scope="x"'}
    client, _ = client_with((401, challenge, b""))

    def deep(*_: object, **__: object) -> object:
        raise RecursionError

    monkeypatch.setattr(client._registry.auth, "authenticate_request", deep)
    with pytest.raises(KernelUnavailableError, match="requires a login"):
        client.tags()


@pytest.mark.parametrize(
    ("status", "is_temporary", "said"),
    [
        (400, False, "answered with HTTP status 400"),
        (405, False, "answered with HTTP status 405"),
        (408, True, "answered with HTTP status 408"),
        (413, False, "takes no upload of this size"),
        (500, True, "answered with HTTP status 500"),
        (507, True, "answered with HTTP status 507"),
    ],
)
def test_what_is_refused_is_not_sent_again(status: int, is_temporary: bool, said: str) -> None:
    place = (202, {"Location": "/upload"}, b"")
    client, given = client_with((404, {}, b""), place, (status, {}, b""))
    with pytest.raises(BpfmatrixError, match=said) as raised:
        client.push_blob(BLOB, b"data")
    assert isinstance(raised.value, UnreachableError) == is_temporary
    assert (len(given.asked) > 3) == is_temporary


@pytest.mark.parametrize(
    ("place", "sent_to", "has_login"),
    [
        ("http://r.example/upload", "https://r.example/upload", True),
        ("https://r.example/upload", "https://r.example/upload", True),
        ("/upload", "https://r.example/upload", True),
        ("http://r.example:80/upload", "http://r.example:80/upload", False),
        ("https://storage.example/upload", "https://storage.example/upload", False),
    ],
)
def test_a_login_goes_to_the_registry_only_and_by_tls(
    place: str, sent_to: str, has_login: bool
) -> None:
    started = (202, {"Location": place}, b"")
    client, given = client_with((404, {}, b""), started, started, (201, {}, b""))
    client._registry.auth.get_auth_header = lambda: {"Authorization": "secret"}
    client.push_blob(BLOB, b"data")
    for method, url, headers in given.asked[2:]:
        assert url.partition("?")[0] == sent_to, method
        assert ("Authorization" in headers) == has_login


@pytest.mark.parametrize("size", ["1e999", "-1", "1.5", "true", '"4"', str(1 << 63)])
def test_a_size_that_is_none(size: str) -> None:
    text = f'{{"mediaType": "x", "digest": "sha256:{"0" * 64}", "size": {size}}}'
    with pytest.raises(KernelUnavailableError, match="can't be read"):
        Descriptor.of(manifests.loads(text.encode()), "image")


def test_an_index_without_a_list() -> None:
    index = b'{"schemaVersion": 2, "manifests": null}'
    # The tag names an index; the platforms' own tags do not exist.
    missing = [(404, dict[str, str](), b"")] * len(ARCHITECTURES)
    client, _ = client_with(
        (200, {}, b"{}"), (201, {}, b""), (200, {"Content-Type": INDEXES[0]}, index), *missing
    )
    image = replace(Descriptor.to(MANIFESTS[0], b"{}"), platform="linux/amd64")
    with pytest.raises(KernelUnavailableError, match="can't be read"):
        publishing.tag_index(client, "1", image, {})


def test_a_blob_of_a_folder_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "blobs/sha256" / BLOB.sha256).mkdir(parents=True)
    with pytest.raises(BpfmatrixError, match=r"can't be read \(Is a directory\)"):
        LayoutFolder(LayoutName(tmp_path)).fetch_blob(BLOB, tmp_path / "x", lambda *_: None)


@pytest.mark.parametrize("text", ["[:::]/x", "[1:2]/x", "[:::]:5000/x:1"])
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected the name of an image"):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("oci://ghcr.io/you/kernels", "ghcr.io/you/kernels"),
        ("oci:ghcr.io/you/kernels", "ghcr.io/you/kernels"),
        ("you/kernels", "you/kernels"),
        ("oci://http://r.lan:5000/kernels", "http://r.lan:5000/kernels"),
        ("[::1]:5000/kernels", "[::1]:5000/kernels"),
        ("ghcr.io", None),
        ("http://localhost", None),
        ("https://ghcr.io/you/kernels", None),
        ("ghcr.io/you/kernels:6.1", None),
        (f"ghcr.io/you/kernels@sha256:{'0' * 64}", None),
        ("oci://", None),
        ("[:::]/kernels", None),
    ],
)
def test_the_name_of_a_repository(text: str, bare: str | None) -> None:
    if bare is not None:
        assert repository(text) == bare
        return
    with pytest.raises(ValueError, match="expected a repository"):
        repository(text)
