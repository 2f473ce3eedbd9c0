import io
import os
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError, ToolMissingError
from bpfmatrix.oci import signing
from bpfmatrix.oci.reference import Reference
from bpfmatrix.oci.signing import Signer

DIGEST = f"sha256:{'a' * 64}"
IMAGE = Reference.parse(f"ghcr.io/you/kernels@{DIGEST}")
PLAIN = Reference.parse(f"127.0.0.1:5000/kernels@{DIGEST}")


def installed(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_an_image_is_named_by_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert Signer("cosign").command(IMAGE, None) == [
        *("cosign", "sign", "--yes"),
        f"ghcr.io/you/kernels@{DIGEST}",
    ]
    assert Signer("cosign").command(PLAIN, "a.key")[3:-1] == [
        "--allow-http-registry",
        "--key",
        "a.key",
    ]
    assert Signer("notation").command(PLAIN, "mine") == [
        *("notation", "sign", "--insecure-registry", "--key", "mine"),
        f"127.0.0.1:5000/kernels@{DIGEST}",
    ]


def test_cosign_asks_whoever_can_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, terminal = os.openpty()
    with os.fdopen(leader, "rb"), os.fdopen(terminal) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert Signer("cosign").command(IMAGE, None)[:-1] == ["cosign", "sign"]


def test_which_program_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="neither cosign nor notation is installed"):
        signing.find()
    installed(tmp_path, "notation", "exit 0")
    signing.find().sign(IMAGE, None)
    installed(tmp_path, "cosign", "echo no key >&2; exit 3")
    signer = signing.find()
    assert signer.name == "cosign"
    with pytest.raises(BpfmatrixError, match=r"cosign did not sign ghcr.*\(exit status 3\)"):
        signer.sign(IMAGE, None)
