"""Downloads from real servers on loopback: retried, resumed, checked, and refused."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from bpfmatrix.errors import KernelUnavailableError, UnreachableError
from bpfmatrix.host import download
from tests.cutting_proxy import CuttingProxy
from tests.nginx import Nginx
from tests.web import Web

CONTENT = os.urandom(4 << 20)
OTHER_CONTENT = os.urandom(4 << 20)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def _short_pauses_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_BACKOFF_SECONDS", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A server without ranges, with the file `f`."""
    served = Web(tmp_path / "www")
    (served.root / "f").write_bytes(CONTENT)
    yield served
    served.stop()


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    """A server with ranges, with the file `f`."""
    served = Nginx(tmp_path / "nginx")
    served.root.mkdir(parents=True)
    (served.root / "f").write_bytes(CONTENT)
    served.start()
    yield served
    served.stop()


def files_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "folder/got"


def test_a_file_and_its_progress(web: Web, target: Path) -> None:
    told: list[tuple[int, int]] = []
    download.fetch(f"{web.uri}f", target, progress=lambda *numbers: told.append(numbers))
    assert target.read_bytes() == CONTENT
    assert files_beside(target) == ["got"]
    assert told == sorted(told)
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in told} == {len(CONTENT)}


def test_progress_in_words() -> None:
    told: list[tuple[str, float | None]] = []
    show = download.shown_by(lambda text, fraction=None: told.append((text, fraction)), "f")
    show(1, 0)
    show(3_000_000, 12_000_000)
    assert told == [("fetching f", None), ("fetching f, 12 MB", 0.25)]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_temporary_status_is_retried(web: Web, target: Path, status: int) -> None:
    web.next_statuses = [status, status]
    download.fetch(f"{web.uri}f", target, sha256_of(CONTENT))
    assert target.read_bytes() == CONTENT
    assert web.requests == ["/f"] * 3


def test_a_server_can_not_ask_for_an_endless_pause(
    web: Web, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_RETRY_AFTER_LIMIT_SECONDS", 0.01)
    web.next_statuses, web.retry_after_seconds = [503], 24 * 3600
    download.fetch(f"{web.uri}f", target)
    assert web.requests == ["/f"] * 2


@pytest.mark.parametrize(
    ("status", "kind", "what", "attempts"),
    [
        (403, KernelUnavailableError, "answers HTTP 403 Forbidden", 1),
        (404, download.MissingError, "answers HTTP 404 Not Found", 1),
        (502, UnreachableError, r"can't be reached \(HTTP 502\)", 4),
    ],
)
def test_a_refusal(
    web: Web, target: Path, status: int, kind: type[Exception], what: str, attempts: int
) -> None:
    web.status = status
    with pytest.raises(KernelUnavailableError, match=what) as raised:
        download.fetch(f"{web.uri}f", target)
    assert type(raised.value) is kind
    assert len(web.requests) == attempts
    assert files_beside(target) == []


def test_nobody_listens(web: Web, target: Path) -> None:
    web.stop()
    with pytest.raises(UnreachableError, match="f can't be reached") as raised:
        download.read(f"{web.uri}f")
    assert raised.value.advice == "The reason: Connection refused."


def test_a_server_without_ranges_that_always_closes_in_the_middle(web: Web, target: Path) -> None:
    web.cut_after = 50_000
    with pytest.raises(download.TransferError, match=rf"f ended after 50000 of {len(CONTENT)} "):
        download.fetch(f"{web.uri}f", target, sha256_of(CONTENT))
    # An attempt that gets no further than one before it counts against the limit.
    assert len(web.requests) == 4
    assert not target.exists()
    assert target.with_name("got.part").read_bytes() == CONTENT[:50_000]


def test_without_a_checksum_nothing_is_pieced_together(web: Web, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("got.part").write_bytes(b"something else")
    download.fetch(f"{web.uri}f", target)
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum(web: Web, target: Path) -> None:
    expected = "0" * 64
    with pytest.raises(download.ContentError, match=f"has the SHA-256 {sha256_of(CONTENT)}") as no:
        download.fetch(f"{web.uri}f", target, expected)
    assert expected in no.value.advice
    assert web.requests == ["/f"]
    assert files_beside(target) == []


def test_a_file_that_is_too_large(web: Web, target: Path) -> None:
    with pytest.raises(download.ContentError, match=r"larger than the 4194303 bytes"):
        download.fetch(f"{web.uri}f", target, limit_bytes=len(CONTENT) - 1)
    assert not target.exists()
    assert download.read(f"{web.uri}f", limit_bytes=len(CONTENT)) == CONTENT


def test_a_file_of_this_host(tmp_path: Path, target: Path) -> None:
    (tmp_path / "a file").write_bytes(CONTENT)
    download.fetch(f"file://{tmp_path}/a%20file", target, sha256_of(CONTENT))
    assert target.read_bytes() == CONTENT
    with pytest.raises(download.ContentError):
        download.fetch(f"file://{tmp_path}/a%20file", target, "0" * 64)
    with pytest.raises(UnreachableError, match="nowhere can't be reached"):
        download.fetch(f"file://{tmp_path}/nowhere", target)


@pytest.mark.integration
def test_a_broken_connection_is_resumed(nginx: Nginx, target: Path) -> None:
    proxy = CuttingProxy(nginx.port, limit_bytes=3 << 20)
    download.fetch(f"http://{proxy.host}/f", target, sha256_of(CONTENT))
    proxy.close()
    assert target.read_bytes() == CONTENT
    assert files_beside(target) == ["got"]
    assert nginx.statuses("/f") == [200, 206]


@pytest.mark.integration
def test_a_later_call_resumes_what_an_interrupted_one_left(nginx: Nginx, target: Path) -> None:
    def interrupt(there: int, total: int) -> None:
        if there > 1 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.fetch(f"{nginx.url}/f", target, sha256_of(CONTENT), progress=interrupt)
    kept = target.with_name("got.part").stat().st_size
    assert kept >= 1 << 20
    told: list[int] = []
    download.fetch(
        f"{nginx.url}/f", target, sha256_of(CONTENT), progress=lambda there, _: told.append(there)
    )
    assert told[0] > kept
    assert target.read_bytes() == CONTENT
    assert files_beside(target) == ["got"]
    assert nginx.statuses("/f")[-1] == 206


@pytest.mark.integration
def test_a_server_that_goes_away_and_comes_back(nginx: Nginx, target: Path) -> None:
    nginx.stop()
    nginx.start(rate="1m")

    def stop(there: int, total: int) -> None:
        nginx.stop()

    with pytest.raises(UnreachableError, match="can't be reached"):
        download.fetch(f"{nginx.url}/f", target, sha256_of(CONTENT), progress=stop)
    assert 0 < target.with_name("got.part").stat().st_size < len(CONTENT)
    nginx.start()
    download.fetch(f"{nginx.url}/f", target, sha256_of(CONTENT))
    assert target.read_bytes() == CONTENT
    assert nginx.statuses("/f")[-1] == 206


@pytest.mark.integration
def test_a_file_that_is_replaced_between_its_two_halves(nginx: Nginx, target: Path) -> None:
    proxy = CuttingProxy(nginx.port, limit_bytes=3 << 20)
    file = nginx.root / "f"

    def replace(there: int, total: int) -> None:
        proxy.limit_bytes = 1 << 60
        (nginx.root / "new").write_bytes(OTHER_CONTENT)
        os.utime(nginx.root / "new", (1, 1))  # nginx makes its entity tag of time and size
        (nginx.root / "new").replace(file)

    download.fetch(f"http://{proxy.host}/f", target, sha256_of(OTHER_CONTENT), progress=replace)
    proxy.close()
    assert target.read_bytes() == OTHER_CONTENT
    # If-Range made the server send the whole new file instead of its second half.
    assert nginx.statuses("/f") == [200, 200]


@pytest.mark.integration
def test_a_part_without_a_note_is_of_another_file(nginx: Nginx, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("got.part").write_bytes(b"something else")
    download.fetch(f"{nginx.url}/f", target, sha256_of(CONTENT))
    assert target.read_bytes() == CONTENT
    assert nginx.statuses("/f") == [206, 200]


@pytest.mark.integration
def test_a_part_without_a_note_is_resumed(nginx: Nginx, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("got.part").write_bytes(CONTENT[: 3 << 20])
    download.fetch(f"{nginx.url}/f", target, sha256_of(CONTENT))
    assert target.read_bytes() == CONTENT
    assert nginx.statuses("/f") == [206]


@pytest.mark.integration
def test_a_part_that_is_already_complete(nginx: Nginx, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("got.part").write_bytes(CONTENT)
    download.fetch(f"{nginx.url}/f", target, sha256_of(CONTENT))
    assert target.read_bytes() == CONTENT
    assert nginx.statuses("/f") == [416]


def test_a_session_of_another_client(web: Web) -> None:
    web.next_statuses = [503]
    with download.prepare(requests.Session()) as session:
        assert session.get(f"{web.uri}f").content == CONTENT
        web.status = 503
        assert session.get(f"{web.uri}f").status_code == 503


def test_a_probe_fetches_nothing(web: Web, target: Path) -> None:
    download.probe(f"{web.uri}f")
    with pytest.raises(download.MissingError, match="answers HTTP 404"):
        download.probe(f"{web.uri}missing")
    target.parent.mkdir(exist_ok=True, parents=True)
    target.write_bytes(b"x")
    download.probe(target.as_uri())
    with pytest.raises(UnreachableError, match="can't be reached"):
        download.probe(f"{target.as_uri()}.none")
    web.stop()
    with pytest.raises(UnreachableError, match="can't be reached"):
        download.probe(f"{web.uri}f")
