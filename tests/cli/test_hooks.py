"""git's pre-push hook: real pushes into a bare repository, with a script in place of nox."""

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
        """The file into which the hooks and the script write their calls."""
        return self.root.parent / "calls"

    def git(self, *words: str, status: int = 0) -> str:
        # Without the configuration of host and user, and without the variables of a running hook.
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
        """Commit something, and return the digest of the commit."""
        self.git("commit", "--allow-empty", "-qm", "more")
        return self.git("rev-parse", "HEAD").strip()

    def pushed(self) -> str:
        """Return the newest commit of the remote, or nothing if it has none."""
        return self.git("ls-remote", "origin", "refs/heads/main").split("\t")[0]

    def install(self) -> tuple[Path, Path | None]:
        return hooks.install(Project.load(self.root))

    def hook(self, text: str) -> Path:
        """Write a hook of another tool, which writes down its arguments and its input."""
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
    (root / "noxfile.py").write_text("from bpfmatrix.sessions import register\n\nregister()\n")
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
    monkeypatch.setattr(hooks, "_beside", lambda _: str(nox))


def nox_call(checkout: Checkout) -> str:
    return f"nox -s pre-push, in {checkout.root}, GIT_DIR=, input="


def test_a_push_runs_nox(checkout: Checkout) -> None:
    hook, kept = checkout.install()
    assert hook == checkout.root / ".git/hooks/pre-push"
    assert kept is None
    checkout.git("push", "-q", "origin", "main")
    assert checkout.calls.read_text().splitlines() == [nox_call(checkout)]
    assert checkout.pushed() == checkout.git("rev-parse", "HEAD").strip()


def test_a_push_of_a_project_without_sessions_runs_the_program(checkout: Checkout) -> None:
    (checkout.root / "noxfile.py").write_text("import nox\n")  # of the project's own
    checkout.install()
    checkout.git("push", "-q", "origin", "main")
    said = nox_call(checkout).replace("nox -s pre-push", "nox pre-push")
    assert checkout.calls.read_text().splitlines() == [said]  # the script in place of the program


def test_a_push_fails_if_nox_fails(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(checkout, tmp_path, monkeypatch, 1)
    checkout.install()
    checkout.git("push", "-q", "origin", "main", status=1)
    assert checkout.pushed() == ""
    # git's own option to skip hooks still works.
    checkout.git("push", "-q", "--no-verify", "origin", "main")
    assert checkout.pushed() != ""


def test_a_hook_that_exists_is_called_first_with_the_arguments_and_input_of_git(
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


def test_a_hook_that_exists_can_still_stop_a_push(checkout: Checkout) -> None:
    checkout.hook("exit 7")
    checkout.install()
    checkout.git("push", "-q", "origin", "main", status=1)
    assert checkout.pushed() == ""
    assert "nox" not in checkout.calls.read_text()


def test_a_hook_that_exists_need_not_read_its_input(checkout: Checkout) -> None:
    # git ignores the broken pipe of such a hook, and ours must too. The refs do not fit in it.
    path = checkout.hook("")
    path.write_text("#!/bin/sh\nexit 0\n")
    refs = [f"HEAD:refs/heads/branch-with-a-long-name-{number:060}" for number in range(500)]
    checkout.install()
    checkout.git("push", "-q", "origin", "main", *refs)
    assert checkout.calls.read_text().splitlines() == [nox_call(checkout)]
    assert checkout.pushed() != ""


def test_a_hook_that_is_not_executable_is_not_called(checkout: Checkout) -> None:
    checkout.hook("exit 7").chmod(0o644)  # git ignores it
    checkout.install()
    checkout.git("push", "-q", "origin", "main")
    assert checkout.pushed() != ""


def test_installing_twice_changes_nothing(checkout: Checkout) -> None:
    checkout.hook("")
    first, second = checkout.install(), checkout.install()
    assert first == second
    checkout.git("push", "-q", "origin", "main")
    called = [line.split()[0] for line in checkout.calls.read_text().splitlines()]
    assert called == ["other", "refs/heads/main", "nox"]


@pytest.mark.parametrize("front_end", ["bpfmatrix", "invoke"])
def test_the_hook_names_the_command_that_wrote_it(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, front_end: str
) -> None:
    monkeypatch.setattr("sys.argv", [f"/some where/{front_end}"])
    hook, _ = checkout.install()
    line = hook.read_text().splitlines()[1]
    assert line.startswith(f"# Installed by `{front_end} hooks.install` of bpfmatrix.")
    # Written by another front end, it is still no hook of others.
    monkeypatch.setattr("sys.argv", ["invoke"])
    assert checkout.install() == (hook, None)


def test_two_hooks_of_others_are_refused(checkout: Checkout) -> None:
    checkout.hook("")
    checkout.install()
    checkout.hook("exit 0")  # another tool that installs itself
    with pytest.raises(
        BpfmatrixError,
        match=r"two other hooks, .*pre-push and pre-push.before-bpf",
    ):
        checkout.install()


def test_a_hook_that_exists_can_be_a_binary(checkout: Checkout) -> None:
    path = checkout.root / ".git/hooks/pre-push"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(Path("/bin/true").read_bytes())
    path.chmod(0o755)
    checkout.install()
    checkout.git("push", "-q", "origin", "main")
    assert checkout.pushed() != ""


def test_core_hooks_path_is_respected(checkout: Checkout) -> None:
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
    # The tests run in the worktree that pushes.
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


def test_a_branch_without_the_project_is_pushed_untested(checkout: Checkout) -> None:
    checkout.install()
    checkout.git("rm", "-q", "kernels.yaml")
    checkout.git("commit", "-qm", "gone")
    checkout.git("push", "-q", "origin", "main")
    assert not checkout.calls.exists()


def test_a_project_with_a_kernels_yml_is_tested(checkout: Checkout) -> None:
    checkout.install()
    checkout.git("mv", "kernels.yaml", "kernels.yml")
    checkout.git("commit", "-qm", "renamed")
    checkout.git("push", "-q", "origin", "main")
    assert checkout.calls.exists()


def test_a_push_of_nothing_runs_no_tests(checkout: Checkout) -> None:
    checkout.git("push", "-q", "origin", "main")
    checkout.hook("")
    checkout.install()
    checkout.git("push", "-q", "origin", "main")
    # The other hook is called as before. There is nothing to test.
    assert checkout.calls.read_text() == f"other origin {checkout.remote}\n"


def test_a_folder_outside_of_a_checkout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kernels.yaml").write_text(CONFIG)
    project = Project.load(tmp_path)
    with pytest.raises(BpfmatrixError, match="is not in a git checkout"):
        hooks.install(project)


def refused(checkout: Checkout) -> str:
    """Install the hook, which fails; return what it says."""
    with pytest.raises(BpfmatrixError) as caught:
        hooks.install(Project.load(checkout.root))
    return caught.value.what


def test_hooks_that_are_switched_off_are_one_sentence(checkout: Checkout) -> None:
    checkout.git("config", "core.hooksPath", os.devnull)
    assert refused(checkout) == "git looks for hooks in /dev/null, which is not a folder"


@pytest.mark.parametrize("name", ["pre-push", "pre-push.before-bpfmatrix"])
def test_a_folder_in_place_of_the_hook_is_one_sentence(checkout: Checkout, name: str) -> None:
    folder = checkout.root / ".git/hooks" / name
    folder.mkdir(parents=True)
    assert refused(checkout) == f"{folder} is a folder, and no hook"


def test_hooks_that_can_not_be_written_are_one_sentence(checkout: Checkout) -> None:
    checkout.git("config", "core.hooksPath", "/proc/none")
    assert refused(checkout) == (
        "the hook /proc/none/pre-push can't be written: No such file or directory"
    )
    (checkout.root / ".git/hooks").mkdir(exist_ok=True)
    checkout.git("config", "core.hooksPath", "a" * 300)
    assert refused(checkout).endswith("can't be written: File name too long")


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
