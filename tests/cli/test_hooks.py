"""git's pre-push hook: real pushes into a bare repository, with a stand-in for nox."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from bpfmatrix.cli import hooks
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from tests.tool import ToolProject, plain_environment

CONFIG = """\
payload: {ebpf: null, go: null}
kernels: {"6.1": {source: {oci: "example/6.1"}}}
"""


@dataclass(frozen=True)
class Checkout:
    """A repository with a kernels.yaml, whose remote is a bare one beside it."""

    root: Path

    @property
    def remote(self) -> Path:
        return self.root.parent / "remote.git"

    @property
    def calls(self) -> Path:
        """What the stand-in for nox wrote about its calls."""
        return self.root.parent / "calls"

    def git(self, *words: str, status: int = 0) -> str:
        # Nothing of the host's or the user's configuration, and of a hook that runs these tests.
        own = {k: v for k, v in plain_environment().items() if not k.startswith("GIT_")}
        own |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        for who in ("AUTHOR", "COMMITTER"):
            own |= {f"GIT_{who}_NAME": "A", f"GIT_{who}_EMAIL": "a@example.org"}
        done = subprocess.run(
            ["git", *words],
            cwd=self.root,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def commit(self) -> str:
        """Commit something; returns what the commit is called."""
        self.git("commit", "--allow-empty", "-qm", "more")
        return self.git("rev-parse", "HEAD").strip()

    def pushed(self) -> str:
        """Return the remote's newest commit, or nothing."""
        return self.git("ls-remote", "origin", "refs/heads/main").split("\t")[0]

    def install(self) -> tuple[Path, Path | None]:
        return hooks.install(Project.load(self.root))

    def hook(self, text: str) -> Path:
        """Write a hook of somebody else's, which notes its arguments and its input."""
        path = self.root / ".git/hooks/pre-push"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "other $*" >>{self.calls}\ncat >>{self.calls}\n{text}\n')
        path.chmod(0o755)
        return path


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    root = tmp_path / "a folder's"
    root.mkdir()
    (root / "kernels.yaml").write_text(CONFIG)
    made = Checkout(root)
    made.git("init", "-q", "-b", "main")
    made.git("init", "-q", "--bare", str(made.remote))
    made.git("remote", "add", "origin", str(made.remote))
    made.git("add", "-A")
    made.commit()
    stand_in(made, tmp_path, monkeypatch, 0)
    return made


def stand_in(
    checkout: Checkout, folder: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    nox = folder / "a nox"
    nox.write_text(
        f'#!/bin/sh\necho "nox $*, in $PWD, GIT_DIR=$GIT_DIR, input=$(cat)" >>{checkout.calls}\n'
        f"exit {status}\n"
    )
    nox.chmod(0o755)
    monkeypatch.setattr(hooks, "_nox", lambda: str(nox))


def nox_call(checkout: Checkout) -> str:
    return f"nox -s pre-push, in {checkout.root}, GIT_DIR=, input="


def test_a_push_asks_nox(checkout: Checkout) -> None:
    hook, kept = checkout.install()
    assert hook == checkout.root / ".git/hooks/pre-push"
    assert kept is None
    checkout.git("push", "-q", "origin", "main")
    assert checkout.calls.read_text().splitlines() == [nox_call(checkout)]
    assert checkout.pushed() == checkout.git("rev-parse", "HEAD").strip()


def test_a_push_of_what_fails_does_not_happen(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(checkout, tmp_path, monkeypatch, 1)
    checkout.install()
    checkout.git("push", "-q", "origin", "main", status=1)
    assert checkout.pushed() == ""
    # git's own way around it stays.
    checkout.git("push", "-q", "--no-verify", "origin", "main")
    assert checkout.pushed() != ""


def test_a_hook_that_was_there_is_called_first_with_all_that_git_gave(
    checkout: Checkout,
) -> None:
    checkout.hook("")
    hook, kept = checkout.install()
    assert kept == hook.with_name("pre-push.before-bpfmatrix")
    checkout.git("push", "-q", "origin", "main", "HEAD:refs/heads/other")
    head, none = checkout.git("rev-parse", "HEAD").strip(), "0" * 40
    assert checkout.calls.read_text().splitlines() == [
        f"other origin {checkout.remote}",
        f"refs/heads/main {head} refs/heads/main {none}",
        f"HEAD {head} refs/heads/other {none}",
        nox_call(checkout),
    ]


def test_a_hook_that_was_there_can_still_forbid_a_push(checkout: Checkout) -> None:
    checkout.hook("exit 7")
    checkout.install()
    checkout.git("push", "-q", "origin", "main", status=1)
    assert checkout.pushed() == ""
    assert "nox" not in checkout.calls.read_text()


def test_a_hook_that_does_not_read_its_input(checkout: Checkout) -> None:
    # git ignores the broken pipe of such a hook, and so must we: with far more refs than fit.
    path = checkout.hook("")
    path.write_text("#!/bin/sh\nexit 0\n")
    refs = [f"HEAD:refs/heads/branch-with-a-long-name-{number:060}" for number in range(500)]
    checkout.install()
    checkout.git("push", "-q", "origin", "main", *refs)
    assert checkout.calls.read_text().splitlines() == [nox_call(checkout)]
    assert checkout.pushed() != ""


def test_a_hook_that_was_there_and_is_no_executable_stays_what_it_is(checkout: Checkout) -> None:
    checkout.hook("exit 7").chmod(0o644)  # git ignores it
    checkout.install()
    checkout.git("push", "-q", "origin", "main")
    assert checkout.pushed() != ""


def test_installing_twice_is_fine(checkout: Checkout) -> None:
    checkout.hook("")
    first, second = checkout.install(), checkout.install()
    assert first == second
    checkout.git("push", "-q", "origin", "main")
    called = [line.split()[0] for line in checkout.calls.read_text().splitlines()]
    assert called == ["other", "refs/heads/main", "nox"]


def test_two_hooks_of_others_are_too_many(checkout: Checkout) -> None:
    checkout.hook("")
    checkout.install()
    checkout.hook("exit 0")  # another tool that installs itself
    with pytest.raises(
        BpfmatrixError,
        match=r"two other hooks, .*pre-push and pre-push.before-bpf",
    ):
        checkout.install()


def test_a_hook_of_many_lines_without_a_text(checkout: Checkout) -> None:
    path = checkout.root / ".git/hooks/pre-push"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(Path("/bin/true").read_bytes())
    path.chmod(0o755)
    checkout.install()
    checkout.git("push", "-q", "origin", "main")
    assert checkout.pushed() != ""


def test_where_git_looks_for_hooks(checkout: Checkout) -> None:
    checkout.git("config", "core.hooksPath", "tools/hooks")
    hook, _ = checkout.install()
    assert hook == checkout.root / "tools/hooks/pre-push"
    checkout.git("push", "-q", "origin", "main")
    assert checkout.calls.read_text().splitlines() == [nox_call(checkout)]


def test_a_worktree_shares_its_repositorys_hook(checkout: Checkout) -> None:
    worktree = Checkout(checkout.root.parent / "worktree")
    checkout.git("worktree", "add", "-q", "-b", "side", str(worktree.root))
    hook, _ = worktree.install()
    assert hook.resolve() == checkout.root / ".git/hooks/pre-push"
    worktree.git("push", "-q", "origin", "side")
    # What is pushed from a worktree is tested there.
    assert checkout.calls.read_text().splitlines() == [nox_call(worktree)]
    checkout.git("push", "-q", "origin", "main")
    assert checkout.calls.read_text().splitlines()[1:] == [nox_call(checkout)]


def test_a_project_in_a_subfolder(checkout: Checkout) -> None:
    sub = checkout.root / "probe/ebpf"
    sub.mkdir(parents=True)
    (sub / "kernels.yaml").write_text(CONFIG)
    hook, _ = hooks.install(Project.load(sub))
    assert hook.resolve() == checkout.root / ".git/hooks/pre-push"
    checkout.git("push", "-q", "origin", "main")
    assert f"in {sub}," in checkout.calls.read_text()


def test_a_branch_without_the_project(checkout: Checkout) -> None:
    checkout.install()
    checkout.git("rm", "-q", "kernels.yaml")
    checkout.git("commit", "-qm", "gone")
    checkout.git("push", "-q", "origin", "main")
    assert not checkout.calls.exists()


def test_a_push_of_nothing(checkout: Checkout) -> None:
    checkout.git("push", "-q", "origin", "main")
    checkout.hook("")
    checkout.install()
    checkout.git("push", "-q", "origin", "main")
    # The other hook hears of it, as it did before; there is nothing to test.
    assert checkout.calls.read_text() == f"other origin {checkout.remote}\n"


def test_no_checkout(tmp_path: Path) -> None:
    (tmp_path / "kernels.yaml").write_text(CONFIG)
    project = Project.load(tmp_path)
    with pytest.raises(BpfmatrixError, match="is not in a git checkout"):
        hooks.install(project)


@pytest.mark.integration
def test_a_push_runs_the_tests(project: ToolProject) -> None:
    checkout = Checkout(project.root)
    project.script("fine", "exit 3")
    project.configure(payload={"ebpf": None, "go": None, "binaries": ["fine"]})
    checkout.git("init", "-q", "-b", "main")
    checkout.git("init", "-q", "--bare", str(checkout.remote))
    checkout.git("remote", "add", "origin", str(checkout.remote))
    checkout.git("add", "kernels.yaml", "fine")
    checkout.commit()
    assert "installed" in project.invoke("hooks.install").output

    said = checkout.git("push", "origin", "main", status=1)
    assert "exit status 3" in said
    assert checkout.pushed() == ""
    project.script("fine", "true")
    assert "passed" in checkout.git("push", "origin", "main")
    assert checkout.pushed() != ""
    checkout.commit()
    assert "(cached" in checkout.git("push", "origin", "main")
