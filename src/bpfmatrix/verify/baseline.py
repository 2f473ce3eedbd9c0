"""The baseline: the verifications of commits, which git keeps beside the branches.

The ref `refs/bpfmatrix/baseline` is a history of its own. Its tree has a folder for each commit of
the project, with a file for each kernel: `<folder of the project>/<commit>/<kernel>.json`. It is in
git, and not in a file, a cache or an artifact of CI, because it then belongs to exact commits, does
not expire, needs no other account than the repository's own, and can be fetched by every laptop,
fork and CI that can fetch the repository. git stores what two files have in common only once.
"""

import dataclasses
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.host.git import Git, reason
from bpfmatrix.host.text import counted
from bpfmatrix.results.checked import checked_verification, load_json
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import Code, Verification

__all__ = ["REF", "BaselineName", "Baselines", "Found", "is_kept", "reduced"]

NAME = "baseline"
"""The word for it on a command line: `baseline`, or `baseline:REVISION`."""
REF = "refs/bpfmatrix/baseline"
_TRACKING = "refs/bpfmatrix/remotes/{}/baseline"
_ENVIRONMENT = {
    # A remote that asks for a password is one that can't be asked.
    "GIT_TERMINAL_PROMPT": "0",
    # `git commit-tree` needs an author, which a CI has not configured.
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "bpfmatrix"), ("EMAIL", "bpfmatrix@localhost"))
    },
}
# Jobs of many kernels push side by side; one of them succeeds at each attempt.
_MOST_PUSHES = 60
_LONGEST_PAUSE_SECONDS = 1.0
_SEARCHED_COMMITS = 20_000
# The commit that a merge request is compared with, and the branch that it goes to.
_CI_BASE = "CI_MERGE_REQUEST_DIFF_BASE_SHA"
_CI_TARGET = ("GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME")


@dataclass(frozen=True)
class BaselineName:
    """The baseline that a user names: of the history here, or of another revision's."""

    revision: str = ""
    """Empty for the commit that is checked out, or that a pull request is based on."""

    @classmethod
    def parse(cls, text: str) -> "BaselineName | None":
        """Return the baseline of `baseline` or `baseline:REVISION`; None for any other text."""
        name, colon, revision = text.partition(":")
        if name != NAME or (colon and not revision):
            return None
        return cls(revision)


@dataclass(frozen=True)
class Found:
    """A baseline: for each kernel, the newest results that there are."""

    commits: Mapping[str, str]
    """The commit of each kernel's results, by the kernel's id."""
    verifications: list[Verification]
    is_ancestor: bool = True
    """Whether these are known to be commits of the history that was searched."""

    @property
    def title(self) -> str:
        """What it is called, such as `the baseline of 1a2b3c4d5e6f`."""
        shown = list(dict.fromkeys(commit[:12] for commit in self.commits.values()))
        known = "" if self.is_ancestor else ", the newest one"
        return f"the baseline of {', '.join(shown)}{known}"


def is_kept(one: Verification) -> bool:
    """Whether a verification can be a baseline: programs were loaded, and nothing broke off."""
    ran = [program for program in one.programs if program.code is not Code.NOT_RUN]
    return one.outcome in (*FINE, Outcome.FAILED) and bool(ran)


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
        """`folder` is that of the project; `environment` may be that of a job of CI; `report` is
        told what takes time, and what is left out.

        UsageError if there is no repository, or if it has no commit.
        """
        self._git = Git(folder, _ENVIRONMENT)
        self._environment, self._report = environment, report
        done = self._git.run("rev-parse", "--show-prefix")
        if done.returncode:
            raise UsageError(
                f"{NAME}: git finds no repository for {folder}, and keeps baselines in one: "
                f"{reason(done)}",
                "Name a file instead: --save base.json, --against base.json",
            )
        self._prefix = os.fsdecode(done.stdout).removesuffix("\n")
        self._head = self._commit_of("HEAD")
        if not self._head:
            raise UsageError(
                f"{NAME}: the repository of {folder} has no commit yet, and a baseline is of one",
                "Commit first, or name a file: --save base.json, --against base.json",
            )

    def require_remote(self) -> None:
        """Raise UsageError if there is no remote to push to."""
        if not self._remotes():
            raise UsageError("--push: the repository has no remote", "Run: git remote add")

    def save(self, found: Iterable[Verification]) -> str:
        """Keep the verifications as results of HEAD; return what they are called.

        Those of other kernels stay, and those that `is_kept` refuses are left out, with a message.
        """
        kept = {one.kernel: one for one in found if is_kept(one)}
        left_out = [one.kernel for one in found if one.kernel not in kept]
        if left_out:
            self._report(f"not kept, as nothing was loaded there: {', '.join(left_out)}")
        if not kept:
            raise BpfmatrixError(f"--save {NAME}: there is no result that could be kept")
        self._fetch()
        if changed := len(self._git.lines("status", "--porcelain", "--untracked-files=no")):
            verb = "differs" if changed == 1 else "differ"
            subject = f"{counted(changed, 'tracked file')} {verb}"
            self._report(f"{subject} from the commit that this baseline is kept for")
        self._unite(kept)
        return f"the baseline of {self._head[:12]}"

    def push(self) -> str:
        """Push the baseline, united with what others pushed meanwhile; return the remote's name.

        BpfmatrixError, with git's words, if it is refused.
        """
        self.require_remote()
        remote = self._remotes()[0]
        tracking = _TRACKING.format(remote)
        for _ in range(_MOST_PUSHES):
            # The user's own hook, such as `nox -s pre-push`, is for pushes of branches.
            done = self._git.run("push", "--no-verify", "--quiet", remote, f"{REF}:{REF}")
            if not done.returncode:
                return remote
            before = self._commit_of(tracking)
            time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))  # noqa: S311 - no secret
            self._fetch([remote])
            if self._commit_of(tracking) == before:
                break
            self._unite({})
        raise BpfmatrixError(
            f"--push: {remote} did not take {REF}: {reason(done)}",
            "In GitHub's CI, the job needs `permissions: contents: write`.",
        )

    def find(self, kernels: Sequence[str], revision: str = "") -> Found | None:
        """Return, for each kernel, the results of the nearest commit in a history.

        The history is that of `revision`; without one, that of the commit which a pull request is
        based on, or of HEAD. Kernels that only the nearest commit of all has are found, too.
        In a clone that lacks the history, they are the newest results that were kept.
        None if there is no baseline. UsageError for a revision that does not exist.
        """
        self._fetch()
        start, known = self._start(revision), self._known()
        if not known:
            return None
        chosen: dict[str, str] = {}
        for commit in self._history(start):
            if commit in known:
                wanted = known[commit] if not chosen else known[commit] & {*kernels}
                chosen = {**dict.fromkeys(sorted(wanted), commit), **chosen}
                if chosen.keys() >= {*kernels}:
                    break
        if chosen:
            return Found(chosen, [self._read(*each) for each in chosen.items()])
        if self._git.line("rev-parse", "--is-shallow-repository") != "true":
            return None
        newest = self._newest(known)
        found = [self._read(kernel, newest) for kernel in sorted(known[newest])]
        return Found(dict.fromkeys(known[newest], newest), found, is_ancestor=False)

    def _start(self, revision: str) -> str:
        """Return the commit at which the search begins."""
        if revision:
            names = (revision, *(f"{remote}/{revision}" for remote in self._remotes()))
            found = next(filter(None, map(self._commit_of, names)), "")
            if not found:
                raise UsageError(f"{NAME}:{revision}: git knows no such revision here")
            return found
        if base := self._environment.get(_CI_BASE):
            return base
        target = next(filter(None, map(self._environment.get, _CI_TARGET)), "")
        parents = self._parents()
        if target and len(parents) > 1:
            return parents[0]  # GitHub checks out a merge into the target
        for remote in self._remotes() if target else ():
            if base := self._git.line("merge-base", f"refs/remotes/{remote}/{target}", self._head):
                return base
        return self._head

    def _history(self, start: str) -> Iterator[str]:
        """Give a commit and its ancestors, the newest first; a shallow clone knows few of them."""
        yield start
        listed = self._git.lines("rev-list", f"-n{_SEARCHED_COMMITS}", start)
        yield from listed
        if not listed or listed[-1] == self._head:
            # A shallow clone does not have the parents, but names them.
            yield from self._parents()

    def _parents(self) -> list[str]:
        raw = self._git.lines("cat-file", "commit", self._head)
        header = raw[: raw.index("")] if "" in raw else raw
        return [line.removeprefix("parent ") for line in header if line.startswith("parent ")]

    def _known(self) -> dict[str, set[str]]:
        """Return the commits of this project that have results, with the ids of their kernels."""
        listing = ("ls-tree", "-r", "-z", "--name-only", "--full-tree")
        paths = {path for tip in self._tips() for path in self._git.paths(*listing, tip) or ()}
        known: dict[str, set[str]] = {}
        for path in paths:
            commit, _, name = path.removeprefix(self._prefix).partition("/")
            if path.startswith(self._prefix) and "/" not in name:
                known.setdefault(commit, set()).add(unquote(name.removesuffix(".json")))
        return known

    def _newest(self, known: Mapping[str, object]) -> str:
        """Return the commit whose results were kept last."""
        form = "--format=%(trailers:key=Bpfmatrix-Commit,valueonly,separator=)"
        saved = self._git.lines("log", form, *self._tips())
        return next((commit for commit in saved if commit in known), next(iter(known)))

    def _read(self, kernel: str, commit: str) -> Verification:
        path = self._path(kernel, commit)
        printed = (self._git.output("cat-file", "blob", f"{tip}:{path}") for tip in self._tips())
        try:
            one = checked_verification(load_json(next(filter(None, printed))))
            if one.kernel != kernel:
                raise ValueError(f"it is of kernel {one.kernel}")
            return one
        except (StopIteration, ValueError) as error:
            raise BpfmatrixError(
                f"{REF} has a file that can't be read, {path}: {error or 'it is gone'}",
                f"Keep new results of that commit, or begin again: git update-ref -d {REF}, and "
                f"git push REMOTE :{REF}",
            ) from None

    def _path(self, kernel: str, commit: str) -> str:
        return f"{self._prefix}{commit}/{quote(kernel, safe='@+')}.json"

    def _unite(self, kept: Mapping[str, Verification]) -> None:
        """Make a commit with all that is known here and on remotes, and these results of HEAD."""
        tips = self._tips()
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": f"{folder}/index"}
            # The last one wins where two have the same file: that is the one that was kept here.
            for tip in reversed(tips):
                listed = self._made("ls-tree", "-r", "-z", "--full-tree", tip)
                self._made("update-index", "-z", "--index-info", text=listed, env=index)
            for kernel, one in kept.items():
                blob = os.fsdecode(self._made("hash-object", "-w", "--stdin", text=_as_text(one)))
                entry = f"100644 {blob.strip()}\t{self._path(kernel, self._head)}\0"
                self._made("update-index", "-z", "--index-info", text=os.fsencode(entry), env=index)
            tree = os.fsdecode(self._made("write-tree", env=index)).strip()
        message = f"Verification of {self._head[:12]}\n\nBpfmatrix-Commit: {self._head}\n"
        parents = [word for tip in tips for word in ("-p", tip)]
        made = self._made("commit-tree", tree, *parents, text=message.encode())
        self._made("update-ref", REF, os.fsdecode(made).strip())

    def _tips(self) -> list[str]:
        """Return the newest baselines, that of this repository first; none twice."""
        names = (REF, *map(_TRACKING.format, self._remotes()))
        found = [commit for name in names if (commit := self._commit_of(name))]
        return list(dict.fromkeys(found))

    def _fetch(self, remotes: Iterable[str] | None = None) -> None:
        """Fetch the baseline of the remotes; report one that can't be asked."""
        for remote in self._remotes() if remotes is None else remotes:
            self._report(f"fetching the baseline from {remote}")
            # A pattern is no error where there is no such ref, and it is removed here, too.
            done = self._git.run(
                *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--prune"),
                *(remote, f"+{REF}*:{_TRACKING.format(remote)}*"),
            )
            if done.returncode:
                self._report(f"{remote} can't be asked for a baseline: {reason(done)}")

    def _remotes(self) -> list[str]:
        """Return the remotes that may have the baseline: the branch's own, or the usual ones."""
        known = self._git.lines("remote")
        branch = self._git.line("symbolic-ref", "--quiet", "--short", "HEAD")
        own = self._git.line("config", f"branch.{branch}.remote") if branch else ""
        usual = [name for name in (own, "upstream", "origin") if name in known]
        return list(dict.fromkeys(usual or known[:1]))

    def _commit_of(self, revision: str) -> str:
        """Return the name of a commit; empty if the revision names none."""
        return self._git.line(
            *("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        )

    def _made(self, *words: str, text: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        """Run a command of git that must not fail, and return what it prints."""
        done = self._git.run(*words, text=text, env=env)
        if done.returncode:
            raise BpfmatrixError(f"git can't keep the baseline: {reason(done)}")
        return done.stdout


def _as_text(one: Verification) -> bytes:
    """Return JSON with a line for each value: git stores only lines that differ."""
    return (json.dumps(dataclasses.asdict(reduced(one)), indent=1) + "\n").encode()
