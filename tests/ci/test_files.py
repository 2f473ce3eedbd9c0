"""Files of CI that name the action or the template: they only use what these have."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bpfmatrix.scaffold.rendering import CI_FILES, ci_text
from tests.tool import REPOSITORY

ACTION = yaml.safe_load((REPOSITORY / "action.yml").read_text())
GUIDE = (REPOSITORY / "docs/ci.md").read_text()


def workflows() -> Iterator[tuple[str, Any]]:
    for path in sorted((REPOSITORY / ".github/workflows").glob("*.yml")):
        yield path.name, yaml.safe_load(path.read_text())
    yield "the template", yaml.safe_load(ci_text("github", "main"))
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)):
        parsed = yaml.safe_load(block)
        if isinstance(parsed, dict) and "jobs" in parsed:
            yield f"docs/ci.md, {number}", parsed


def used(workflow: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for job in workflow["jobs"].values():
        for user in (job, *job.get("steps", [])):
            if str(user.get("uses")).startswith("bpfmatrix/"):
                yield user["uses"], user.get("with", {})


@pytest.mark.parametrize("name", [name for name, _ in workflows()])
def test_inputs_of_the_action_and_of_the_workflow(name: str) -> None:
    workflow = dict(workflows())[name]
    # YAML 1.1 reads the key `on` as a truth value.
    called = yaml.safe_load((REPOSITORY / ".github/workflows/matrix.yml").read_text())[True]
    for uses, inputs in used(workflow):
        is_action = uses == "bpfmatrix/bpfmatrix@v1"
        assert is_action or uses == "bpfmatrix/bpfmatrix/.github/workflows/matrix.yml@v1"
        known = ACTION["inputs"] if is_action else called["workflow_call"]["inputs"]
        assert inputs.keys() <= known.keys()


def test_workflows_that_users_get_use_the_action() -> None:
    names = [name for name, workflow in workflows() if list(used(workflow))]
    assert {"matrix.yml", "the template"} <= {*names}
    assert len([name for name in names if name.startswith("docs")]) == 2


def test_calls_of_the_workflow_with_other_names_share_nothing() -> None:
    """What one call uploads, only its own last job takes, and the comments are two."""
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/matrix.yml").read_text())
    kernel, report = (workflow["jobs"][name]["steps"] for name in ("kernel", "report"))
    [uploads] = (step["with"]["name"] for step in kernel if "bpfmatrix/" in step.get("uses", ""))
    [pattern] = (step["with"]["pattern"] for step in report if "download" in step.get("uses", ""))
    [comment] = (
        step["with"]["name"] for step in report if step.get("uses", "").startswith("bpfmatrix/")
    )
    assert uploads == "${{ inputs.name }}.${{ matrix.kernel }}"
    assert pattern == "${{ inputs.name }}.*"
    assert comment == "${{ inputs.name }}"


def test_the_guide_names_each_input_of_the_workflow() -> None:
    called = yaml.safe_load((REPOSITORY / ".github/workflows/matrix.yml").read_text())[True]
    text = GUIDE.partition("### A job for each kernel")[2].partition("## GitLab")[0]
    inputs = called["workflow_call"]["inputs"]
    assert [name for name in inputs if f"`{name}`" not in text] == []


def test_the_guide_names_each_input() -> None:
    rows = re.findall(r"^\| (`.*?) \|", GUIDE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert named >= ACTION["inputs"].keys() - {"results"}


def test_gitlabs_templates() -> None:
    template = yaml.safe_load((REPOSITORY / "ci/gitlab/bpfmatrix.yml").read_text())[".bpfmatrix"]
    written = yaml.safe_load(ci_text("gitlab", "main"))
    path = Path("ci/gitlab/bpfmatrix.yml")
    assert written["include"][0]["remote"].endswith(f"/v1/{path}")
    assert written["bpfmatrix"]["extends"] == ".bpfmatrix"
    assert written["bpfmatrix"]["variables"].keys() <= template["variables"].keys()
    assert {*CI_FILES} == {"github", "gitlab"}


def test_no_artifact_has_the_memory_of_a_guest_unless_that_is_asked_for() -> None:
    steps = [(f"action.yml, {step.get('name')}", step) for step in ACTION["runs"]["steps"]]
    for name, workflow in workflows():
        steps += [
            (name, step) for job in workflow["jobs"].values() for step in job.get("steps", ())
        ]
    uploads = {
        name: step["with"]["path"]
        for name, step in steps
        if step.get("uses", "").startswith("actions/upload-artifact@")
        and ".bpfmatrix/results" in step["with"]["path"]
    }
    assert uploads.keys() == {"action.yml, Upload report and results", "ci.yml"}
    left_out = ".bpfmatrix/results/**/*vmcore*.zst*"
    assert f"\n!{left_out}\n" in uploads.pop("ci.yml")
    [path] = uploads.values()
    # Whatever is no `true` leaves it out.
    assert "inputs.upload-dumps != 'true' && format('!{0}/" + left_out in path
    gitlab = yaml.safe_load((REPOSITORY / "ci/gitlab/bpfmatrix.yml").read_text())
    assert gitlab[".bpfmatrix"]["artifacts"]["exclude"] == [f"**/{left_out}"]
