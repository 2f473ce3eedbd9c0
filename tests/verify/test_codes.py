"""The codes in the model, in the loader and in the documentation are the same."""

import re

from bpfmatrix.results.verification import Code
from tests.tool import REPOSITORY


def test_each_code_is_documented_once() -> None:
    page = (REPOSITORY / "docs/reason-codes.md").read_text()
    assert sorted(re.findall(r"^\| `([a-z-]+)` \|", page, re.M)) == sorted(Code)


def test_the_host_makes_each_code() -> None:
    sources = [path.read_text() for path in (REPOSITORY / "src/bpfmatrix/verify").rglob("*.py")]
    # These come from the supervisor, which knows what became of its loaders.
    supervisors = {Code.TIMEOUT, Code.LOADER_CRASHED}
    for code in set(Code) - supervisors:
        assert any(f"Code.{code.name}" in source for source in sources), code
