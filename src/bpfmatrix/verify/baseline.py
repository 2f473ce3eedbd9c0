"""The baseline of a branch: the verifications of its commits, which git keeps beside the branch.

`refs/bpfmatrix/baseline/<branch>` is a chain of commits of its own. Each has one file,
`verify.json`, with the verifications of one commit of the branch, which its trailer names. It is in
git, and not in a file, a cache or an artifact of CI, because it then belongs to exact commits, does
not expire, needs no other account than the repository's own, and can be fetched by every laptop,
fork and CI that can fetch the repository. git stores what two commits have in common only once.
"""

import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.host import process, tools
from bpfmatrix.host.text import counted
from bpfmatrix.results import files
from bpfmatrix.results.verification import Verification

__all__ = ["BaselineName", "Baselines", "Found", "reduced"]

NAME = "baseline"
"""The word for it on a command line: `baseline`, or `baseline:BRANCH`."""
_FILE = "verify.json"
_TRAILER = "Bpfmatrix-Commit"
# `git commit-tree` needs an author, which a CI has not configured.
_AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "bpfmatrix"), ("EMAIL", "bpfmatrix@localhost"))
}
# Jobs of one commit push side by side; each of them needs one attempt more than the one before.
_MOST_PUSHES = 10
_SEARCHED = 500
# The branch that a job is for. Detached checkouts, as CI makes them, do not say it otherwise.
_CI_BRANCH = ("GITHUB_REF_NAME", "CI_COMMIT_BRANCH")
_CI_TARGET = ("GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME")


@dataclass(frozen=True)
class BaselineName:
    """The baseline that a user names: of a branch, or of the one that is meant here."""

    branch: str = ""
    """Empty for the branch that is meant here: see `own_branch` and `base_branches` below."""

    @classmethod
    def parse(cls, text: str) -> "BaselineName | None":
        """Return the baseline of `baseline` or `baseline:BRANCH`; None for any other text."""
        name, colon, branch = text.partition(":")
        if name != NAME or (colon and not branch):
            return None
        return cls(branch)


@dataclass(frozen=True)
class Found:
    """A baseline, and the commit that it is of."""

    branch: str
    commit: str
    """The commit's name."""
    verifications: list[Verification]
    is_ancestor: bool
    """Whether that commit is known to be HEAD, or an ancestor of it."""

    @property
    def title(self) -> str:
        """What it is called, such as `the baseline of main at 1a2b3c4d5e6f`."""
        known = "" if self.is_ancestor else ", the newest one"
        return f"the baseline of {self.branch} at {self.commit[:12]}{known}"


def reduced(one: Verification) -> Verification:
    """Return a verification without what no comparison reads, and what differs each time."""
    programs = tuple(
        dataclasses.replace(
            each,
            verifier_tail="",
            source="",
            log="",
            seconds=0.0,
            statistics=dataclasses.replace(each.statistics, verifier_us=None),
        )
        for each in one.programs
    )
    return dataclasses.replace(
        one,
        programs=programs,
        maps=(),
        refused=(),
        warnings=(),
        provenance={},
        accelerator="",
        start="",
        seconds_to_ready=0.0,
        seconds=0.0,
    )


class Baselines:
    """The baselines of a project's git repository."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], report: Callable[[str], None]
    ) -> None:
        """`folder` is in the repository; `environment` may be that of a job of CI; `report` is told
        what takes time, and what is left out.

        UsageError if there is no repository, or if it has no commit.
        """
        self._git_program = tools.require("git", "git")
        self._folder, self._environment, self._report = folder, environment, report
        if self._run("rev-parse", "--git-dir").returncode:
            raise UsageError(
                f"{NAME}: {folder} is in no git repository, which is where baselines are kept",
                "Make one with git init, or name a file: --save base.json, --against base.json",
            )
        head = self._line("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if not head:
            raise UsageError(
                f"{NAME}: the repository of {folder} has no commit yet, and a baseline is of one",
                "Commit first, or name a file: --save base.json, --against base.json",
            )
        self._head = head

    @property
    def own_branch(self) -> str:
        """The branch that is checked out, or that this job of CI is for.

        UsageError if neither is known.
        """
        return self._current_branch() or self._from_ci(_CI_BRANCH) or self._unknown_branch()

    @property
    def base_branches(self) -> list[str]:
        """The branches whose baselines this work may be compared with, the most fitting one first.

        That is the target of a pull request; otherwise the branch itself, and then the default
        branch of the remote. UsageError if there is none.
        """
        if target := self._from_ci(_CI_TARGET):
            return [target]
        own = self._current_branch() or self._from_ci(_CI_BRANCH)
        known = dict.fromkeys([own, *map(self._default_branch, self._remotes())])
        return [branch for branch in known if branch] or [self._unknown_branch()]

    def save(self, found: Sequence[Verification], branch: str) -> str:
        """Keep these verifications as the baseline of HEAD; return what it is called.

        Kernels of the same commit that were saved before, such as by another job, stay.
        """
        self._fetch(self._remotes())
        self._commit(found, branch, self._tip(branch))
        if changed := len(self._lines("status", "--porcelain", "--untracked-files=no")):
            verb = "differs" if changed == 1 else "differ"
            subject = f"{counted(changed, 'tracked file')} {verb}"
            self._report(f"{subject} from the commit that this baseline is kept for")
        return f"the baseline of {branch} at {self._head[:12]}"

    def push(self, branch: str) -> str:
        """Push the baseline of a branch; return the remote's name.

        What others pushed meanwhile stays. BpfmatrixError, with git's words, if it is refused.
        """
        remotes, ref = self._remotes(), _ref(branch)
        if not remotes:
            raise UsageError("--push: the repository has no remote", "Run: git remote add")
        remote, mine = remotes[0], self._read(ref)
        for _ in range(_MOST_PUSHES):
            # The user's own hook, such as `nox -s pre-push`, is for pushes of branches.
            done = self._run("push", "--no-verify", "--quiet", remote, f"{ref}:{ref}")
            if not done.returncode:
                return remote
            before = self._line("rev-parse", "--verify", "--quiet", _tracking(remote, branch))
            self._fetch([remote])
            there = self._line("rev-parse", "--verify", "--quiet", _tracking(remote, branch))
            if there == before:
                break
            self._commit(mine, branch, there)
        why = _reason(done)
        raise BpfmatrixError(
            f"--push: {remote} did not take {ref}: {why}",
            "In GitHub's CI, the job needs `permissions: contents: write`.",
        )

    def find(self, branches: Iterable[str]) -> Found | None:
        """Return the baseline of the newest ancestor of HEAD, of the first branch that has any.

        If none is known to be of an ancestor, as in a clone that lacks history, it is the newest.
        None if none of the branches has a baseline.
        """
        self._fetch(self._remotes())
        for branch in branches:
            tip = self._tip(branch)
            if tip and (entries := self._entries(tip)):
                return self._nearest(branch, entries)
        return None

    def _nearest(self, branch: str, entries: Sequence[tuple[str, str]]) -> Found:
        # A shallow clone does not have the parents, but names them.
        near = {self._head, *self._parents()}
        for baseline, commit in entries:
            if commit in near or self._is_ancestor(commit):
                return Found(branch, commit, self._read(baseline), is_ancestor=True)
        baseline, commit = entries[0]
        return Found(branch, commit, self._read(baseline), is_ancestor=False)

    def _commit(self, found: Sequence[Verification], branch: str, parent: str) -> None:
        """Put a commit with these verifications of HEAD on top of `parent`, which may be empty."""
        if parent and self._entries(parent, most=1) == [(parent, self._head)]:
            now = {one.kernel for one in found}
            found = [*(one for one in self._read(parent) if one.kernel not in now), *found]
        blob = self._made("hash-object", "-w", "--stdin", text=_as_text(found))
        tree = self._made("mktree", text=f"100644 blob {blob}\t{_FILE}\n")
        message = f"Verification of {self._head[:12]}\n\n{_TRAILER}: {self._head}\n"
        parents = ("-p", parent) if parent else ()
        commit = self._made("commit-tree", tree, *parents, text=message)
        self._made("update-ref", _ref(branch), commit)

    def _read(self, baseline: str) -> list[Verification]:
        done = self._run("cat-file", "blob", f"{baseline}:{_FILE}")
        try:
            if done.returncode:
                raise ValueError(_reason(done))
            parsed = json.loads(done.stdout)["verifications"]
            return [files.parse_verification(one, _FILE) for one in parsed]
        except (ValueError, KeyError, TypeError) as error:
            raise BpfmatrixError(
                f"the baseline {baseline[:12]} can't be read: {error}",
                "It may be of another version of bpfmatrix. Save a new one: verify --save baseline",
            ) from None

    def _entries(self, tip: str, most: int = _SEARCHED) -> list[tuple[str, str]]:
        """Return the newest baselines of a chain, each with the commit that it is of."""
        form = f"--format=%H %(trailers:key={_TRAILER},valueonly,separator=)"
        words = [line.split() for line in self._lines("log", f"-n{most}", form, tip)]
        return [(pair[0], pair[1]) for pair in words if len(pair) == 2]

    def _tip(self, branch: str) -> str:
        """Return the newest baseline that is known, here or on a remote; empty if there is none."""
        own = self._line("rev-parse", "--verify", "--quiet", _ref(branch))
        for remote in self._remotes():
            there = self._line("rev-parse", "--verify", "--quiet", _tracking(remote, branch))
            if there:
                is_newer = (
                    own and not self._run("merge-base", "--is-ancestor", there, own).returncode
                )
                return own if is_newer else there
        return own

    def _fetch(self, remotes: Iterable[str]) -> None:
        """Fetch the baselines of all branches; report a remote that can't be asked."""
        for remote in remotes:
            self._report(f"fetching baselines from {remote}")
            done = self._run(
                *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head"),
                *(remote, f"+{_ref('*')}:{_tracking(remote, '*')}"),
            )
            if done.returncode:
                self._report(f"{remote} can't be asked for baselines: {_reason(done)}")

    def _remotes(self) -> list[str]:
        """Return the remotes, beginning with that of the branch, and those of the field's names."""
        known = self._lines("remote")
        branch = self._current_branch()
        own = self._line("config", f"branch.{branch}.remote") if branch else ""
        first = [name for name in (own, "upstream", "origin") if name in known]
        return list(dict.fromkeys([*first, *known]))

    def _current_branch(self) -> str:
        """Return the branch that is checked out; empty if none is."""
        return self._line("symbolic-ref", "--quiet", "--short", "HEAD")

    def _default_branch(self, remote: str) -> str:
        """Return the default branch of a remote; empty if it does not say one."""
        # What `git clone` notes. The checkout of a job of CI has no such note.
        full = self._line("symbolic-ref", "--quiet", f"refs/remotes/{remote}/HEAD")
        if full:
            return full.removeprefix(f"refs/remotes/{remote}/")
        head, _, _ = self._line("ls-remote", "--symref", remote, "HEAD").partition("\t")
        return head.removeprefix("ref: refs/heads/") if head.startswith("ref: ") else ""

    def _parents(self) -> list[str]:
        raw = self._lines("cat-file", "commit", self._head)
        header = raw[: raw.index("")] if "" in raw else raw
        return [line.removeprefix("parent ") for line in header if line.startswith("parent ")]

    def _is_ancestor(self, commit: str) -> bool:
        return not self._run("merge-base", "--is-ancestor", commit, self._head).returncode

    def _from_ci(self, names: Iterable[str]) -> str:
        return next((value for name in names if (value := self._environment.get(name))), "")

    def _unknown_branch(self) -> str:
        raise UsageError(
            f"{NAME}: no branch is checked out, so it is unknown which branch's baseline is meant",
            f"Name the branch: {NAME}:main",
        )

    def _lines(self, *words: str) -> list[str]:
        done = self._run(*words)
        return done.stdout.splitlines() if not done.returncode else []

    def _line(self, *words: str) -> str:
        """Return the first line that git prints; empty if it fails."""
        return next(iter(self._lines(*words)), "")

    def _made(self, *words: str, text: str = "") -> str:
        """Run a command of git that makes something, and return the line that it prints."""
        done = self._run(*words, text=text)
        if done.returncode:
            why = _reason(done)
            raise BpfmatrixError(f"git can't keep the baseline: {why}")
        return done.stdout.strip()

    def _run(self, *words: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self._git_program, "-C", self._folder, *words],
            env={**self._environment, **_AUTHOR},
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )


def _reason(done: "subprocess.CompletedProcess[str]") -> str:
    """Return in one line why git failed, without what it says at each failure of a push."""
    lines = map(str.strip, done.stderr.splitlines())
    told = [
        line for line in lines if line and not line.startswith(("To ", "error: failed to push"))
    ]
    return process.reason_of_end(done.returncode, "; ".join(told))


def _ref(branch: str) -> str:
    return f"refs/bpfmatrix/baseline/{branch}"


def _tracking(remote: str, branch: str) -> str:
    return f"refs/bpfmatrix/remotes/{remote}/{branch}"


def _as_text(found: Iterable[Verification]) -> str:
    """Return JSON with a line for each value, in one order: git stores only lines that differ."""
    ordered = sorted(map(reduced, found), key=lambda one: one.kernel)
    data = {"schema": 1, "verifications": [dataclasses.asdict(one) for one in ordered]}
    return json.dumps(data, indent=1) + "\n"
