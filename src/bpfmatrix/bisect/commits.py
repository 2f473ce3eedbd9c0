"""A bisection of a git repository of Linux, by git bisect: the commit at which the answer changes.

It works in a worktree of its own, which it adds to the repository, so neither the user's checkout
nor a bisection there is touched (git keeps `refs/bisect` for each worktree). Each answer is noted
in a record: a bisection that was interrupted asks git again, and gives the answers that are known.
"""

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.bisect.search import Answer
from bpfmatrix.bisect.trial import Trial
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.host import records, tools
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.locks import locked_if_free

__all__ = ["Commit", "CommitSearch", "FoundCommit", "History"]

# git's words for the two answers; the first ones are for the ends, in the order of history.
_BEFORE, _AFTER = "before", "after"
# What git bisect prints (builtin/bisect.c): the end, and the end with skipped commits.
_FIRST = re.compile(rf"^([0-9a-f]{{40,64}}) is the first {_AFTER} commit$", re.MULTILINE)
_ANY_OF = re.compile(r"could be any of:\n((?:[0-9a-f]{40,64}\n)+)")
_KERNEL_MAKEFILE = re.compile(r"^VERSION *=.*^PATCHLEVEL *=", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Commit:
    """One commit."""

    sha: str
    subject: str
    author: str
    date: str
    """When it was written: `2026-11-27`."""

    @property
    def short(self) -> str:
        """The beginning of its name."""
        return self.sha[:12]


@dataclass(frozen=True)
class FoundCommit:
    """The answer of a bisection."""

    commits: tuple[Commit, ...]
    """The commit at which the answer changes; several if those between gave no answer."""
    answer: Answer
    """The answer from this commit on."""
    trials: dict[str, Trial]
    """The trials of all commits that were tried, by their names."""


class History:
    """The part of a repository's history that is searched."""

    def __init__(self, tree: Path, good: str, bad: str, place: Path) -> None:
        """`place` is the folder below which the worktree is made.

        UsageError if `tree` is no repository of Linux, or if it lacks one of the revisions.
        """
        self._git_program = tools.require("git", "git")
        self.tree = tree
        self.common = self._repository()
        self.good, self.bad = self._commit("good", good), self._commit("bad", bad)
        if self.good == self.bad:
            raise UsageError(f"--good {good} and --bad {bad} are the same commit")
        self.names = {self.good: good, self.bad: bad}
        self.name = f"bisect-{sha256(str(self.common))[:8]}"
        self.worktree = place / self.name
        # Without one being the other's ancestor, git finds their merge base.
        fixed = self._is_ancestor(self.bad, self.good)
        self.before, self.after = (self.bad, self.good) if fixed else (self.good, self.bad)
        self.first = Answer.BAD if fixed else Answer.GOOD
        """The answer of `before`."""
        for sha in (self.good, self.bad):
            self._require_kernel(sha)

    @property
    def count(self) -> int:
        """How many commits are between the two, the later one included."""
        return int(self._run(self.tree, "rev-list", "--count", self.after, f"^{self.before}"))

    def describe(self, sha: str) -> Commit:
        """Return what git knows of a commit."""
        # Without a signature, which `log.showSignature` of the user's would print before.
        said = self._run(
            self.tree,
            *("log", "-1", "--no-show-signature", "--date=short"),
            *("--format=%H%x00%s%x00%an <%ae>%x00%ad", sha),
        )
        return Commit(*said.rstrip("\n").split("\0"))

    def check_out(self, sha: str) -> None:
        """Let the worktree have the files of a commit; it is made if it is not there."""
        if self._common_folder(self.worktree) != self.common:
            shutil.rmtree(self.worktree, ignore_errors=True)
            # Forced, as git may still have it in its list. `worktree prune` would also forget other
            # worktrees of the user's, whose folders are away for now.
            self._run(
                self.tree,
                *("worktree", "add", "--force", "--no-checkout", "--detach"),
                *(str(self.worktree), sha),
            )
        # A git that was killed leaves it, and no other git works in this worktree.
        lock = self._run(self.worktree, "rev-parse", "--git-path", "index.lock").strip()
        (self.worktree / lock).unlink(missing_ok=True)
        self._run(self.worktree, "checkout", "--quiet", "--force", "--detach", sha)

    def begin(self) -> str:
        """Let git begin the bisection; return what it says."""
        return self._bisect(
            *("start", "--no-checkout", f"--term-old={_BEFORE}", f"--term-new={_AFTER}"),
            *(self.after, self.before, "--"),
        )

    def answer(self, sha: str, answer: Answer) -> str:
        """Tell git the answer of a commit; return what it says."""
        word = {self.first: _BEFORE, self.first.opposite: _AFTER}.get(answer, "skip")
        return self._bisect(word, sha)

    def current(self) -> str:
        """Return the commit that git wants to know the answer of."""
        return self._run(self.worktree, "rev-parse", "--verify", "BISECT_HEAD").strip()

    def _bisect(self, *words: str) -> str:
        done = self._called(self.worktree, "bisect", *words)
        # "There are only 'skip'ped commits left to test" exits with 2, and is an answer.
        if done.returncode and not _ANY_OF.search(done.stdout):
            said = (done.stderr + done.stdout).strip().splitlines()
            raise BpfmatrixError(
                f"git bisect can't go on: {said[0] if said else f'exit status {done.returncode}'}",
                "Name two revisions of which one is an ancestor of the other.",
            )
        return done.stdout

    def _repository(self) -> Path:
        if not self.tree.is_dir():
            raise UsageError(f"--tree {self.tree}: no such folder")
        common = self._common_folder(self.tree)
        if common is None:
            said = self._called(self.tree, "rev-parse", "--git-dir").stderr.strip()
            why = "" if "not a git repository" in said else f" ({said.splitlines()[0]})"
            raise UsageError(
                f"--tree {self.tree} is not a git repository{why}",
                "Expected: a clone of Linux, with the commits between --good and --bad.",
            )
        return common

    def _common_folder(self, folder: Path) -> Path | None:
        """Return the folder that all worktrees of a repository share, or None if there is none."""
        # A worktree whose repository is gone may lie in another repository: that of the project.
        if not folder.is_dir() or (
            folder == getattr(self, "worktree", None) and not (folder / ".git").is_file()
        ):
            return None
        done = self._called(folder, "rev-parse", "--git-common-dir")
        return (folder / done.stdout.strip()).resolve() if done.returncode == 0 else None

    def _commit(self, option: str, revision: str) -> str:
        done = self._called(
            self.tree,
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{revision}^{{commit}}",
        )
        if done.returncode:
            raise UsageError(
                f"--{option} {revision}: {self.tree} has no such revision",
                "Name a tag, a branch or a commit; `git fetch --tags` fetches what is missing.",
            )
        return done.stdout.strip()

    def _is_ancestor(self, one: str, other: str) -> bool:
        return self._called(self.tree, "merge-base", "--is-ancestor", one, other).returncode == 0

    def _require_kernel(self, sha: str) -> None:
        makefile = self._called(self.tree, "show", f"{sha}:Makefile").stdout
        kconfig = self._called(self.tree, "cat-file", "-e", f"{sha}:Kconfig")
        if kconfig.returncode or not _KERNEL_MAKEFILE.search(makefile):
            raise UsageError(
                f"--tree {self.tree}: {self.names[sha]} is not a source tree of Linux",
                "Expected: the Makefile and the Kconfig of a kernel in its uppermost folder.",
            )

    def _run(self, folder: Path, *words: str) -> str:
        done = self._called(folder, *words)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise BpfmatrixError(
                f"git {words[0]} failed in {folder}: {said[-1] if said else 'it said nothing'}"
            )
        return done.stdout

    def _called(self, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        # Variables of a git that runs bpfmatrix, such as in a hook, are about another repository.
        # Hooks of the user's are meant for their own checkout.
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return subprocess.run(
            [self._git_program, "-C", folder, "-c", "core.hooksPath=/dev/null", *words],
            env={**env, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )


class CommitSearch:
    """A bisection, whose answers are kept."""

    def __init__(self, history: History, question: str) -> None:
        """`question` identifies what is asked: answers are reused for the same one only."""
        self.history = history
        self._note = history.worktree.with_name(f"{history.name}.json")
        self._question = sha256(question)
        self.known = self._read()

    def forget(self) -> None:
        """Forget what is known."""
        self.known = {}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep others out of the worktree; BpfmatrixError if another bisection is in it."""
        worktree = self.history.worktree
        worktree.parent.mkdir(parents=True, exist_ok=True)
        with locked_if_free(worktree.with_name(f"bisecting-{worktree.name}")) as is_free:
            if not is_free:
                raise BpfmatrixError(
                    f"another bisection of {self.history.tree} is running",
                    "Wait until it has ended.",
                )
            yield

    def run(self, try_commit: Callable[[Commit], Trial]) -> FoundCommit:
        """Find the commit. `try_commit` is called while the worktree has the commit's files.

        The two ends are tried first: BpfmatrixError if their answers are not what the user said.
        """
        history = self.history
        trials: dict[str, Trial] = {}

        def ask(sha: str) -> Answer:
            if sha not in self.known:
                history.check_out(sha)
                self.known[sha] = try_commit(history.describe(sha))
                self._write()
            trials[sha] = self.known[sha]
            return trials[sha].answer

        for sha, said in ((history.before, history.first), (history.after, history.first.opposite)):
            if sha in self.known and self.known[sha].answer is Answer.UNKNOWN:
                del self.known[sha]  # what was wrong may be fixed, and the search needs its answer
            if ask(sha) is not said:
                raise self._wrong_end(sha, said, trials[sha])
        output = history.begin()
        while not (found := self._end(output)):
            sha = history.current()
            output = history.answer(sha, ask(sha))
        commits = tuple(history.describe(sha) for sha in found)
        return FoundCommit(commits, history.first.opposite, trials)

    def _end(self, output: str) -> tuple[str, ...]:
        if found := _FIRST.search(output):
            return (found[1],)
        several = _ANY_OF.search(output)
        return tuple(several[1].split()) if several else ()

    def _wrong_end(self, sha: str, said: Answer, trial: Trial) -> BpfmatrixError:
        name = self.history.names[sha]
        why = f": {trial.reason}" if trial.reason else ""
        if trial.answer is Answer.UNKNOWN:
            return BpfmatrixError(
                f"{name} was given as {said}, but it can't be tried{why}",
                f"Name another revision with --{said}.",
            )
        return BpfmatrixError(
            f"{name} was given as {said}, but it is {trial.answer}{why}",
            f"Are --good and --bad swapped? Otherwise name another revision with --{said}.",
        )

    def _read(self) -> dict[str, Trial]:
        data = records.read(self._note) or {}
        if data.get("question") != self._question:
            return {}
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            return {
                sha: Trial(**{**trial, "answer": Answer(trial["answer"])})
                for sha, trial in data["trials"].items()
            }
        return {}

    def _write(self) -> None:
        trials = {sha: dataclasses.asdict(trial) for sha, trial in self.known.items()}
        records.write(self._note, {"question": self._question, "trials": trials})
