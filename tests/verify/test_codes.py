"""The codes in the model, in the loader and in the documentation are the same."""

import re

from bpfmatrix.results.verification import Code
from tests.tool import REPOSITORY


def test_each_code_is_documented_once() -> None:
    page = (REPOSITORY / "docs/reason-codes.md").read_text()
    assert sorted(re.findall(r"^\| `([a-z-]+)` \|", page, re.M)) == sorted(Code)


def test_the_loader_knows_no_others() -> None:
    source = (REPOSITORY / "support/cmd/bpfload/events.go").read_text()
    said = re.findall(r'^\tcode\w+ += "([a-z-]+)"$', source, re.M)
    hosts = {Code.TOO_CLOSE, Code.KERNEL_DIED, Code.NOT_RUN}
    assert set(said) == set(Code) - hosts
