"""The pages in docs: their links, and the tables of results."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from bpfmatrix.results import kernel_run, outcome
from tests.docs.pages import PAGES, page_id
from tests.tool import REPOSITORY


def test_the_page_of_results_has_every_key_and_outcome() -> None:
    page = (REPOSITORY / "docs/results.md").read_text()
    for keys in (kernel_run.KernelRun, kernel_run.TestResult):
        for field in dataclasses.fields(keys):
            assert f"| `{field.name}` |" in page
    for one in outcome.Outcome:
        assert f"| `{one}` |" in page


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_each_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_workflow_of_sweeps_is_yaml_and_keeps_its_state_whatever_happens() -> None:
    page = (REPOSITORY / "docs/sweep.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    steps = yaml.safe_load(text)["jobs"]["sweep"]["steps"]
    uses = [step.get("uses", "").partition("@")[0] for step in steps]
    restored, saved = uses.index("actions/cache/restore"), uses.index("actions/cache/save")
    sweeps = [n for n, step in enumerate(steps) if step.get("run", "").endswith("bpfmatrix sweep")]
    assert [restored, *sweeps, saved] == sorted([restored, *sweeps, saved])
    assert len(sweeps) == 1
    assert steps[saved]["if"] == "always()"
    for key in ("path", "key"):
        assert steps[restored]["with"][key] == steps[saved]["with"][key]
