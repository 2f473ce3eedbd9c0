"""A git repository that looks like one of Linux to a bisection."""

import subprocess
from pathlib import Path

from bpfmatrix.bisect.commits import History


class Linux:
    """A repository with one commit for each letter: good, bad, or `?` if it does not build."""

    def __init__(self, root: Path, letters: str) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "A. Tester")
        self.git("config", "user.email", "a@example.org")
        (root / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\n")
        (root / "Kconfig").write_text("")
        self.commits = [
            self.commit(letter, f"commit {number}") for number, letter in enumerate(letters)
        ]

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.root, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, letter: str, subject: str) -> str:
        (self.root / "letter").write_text(f"{letter} {subject}\n")
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", subject)
        return self.git("rev-parse", "HEAD")

    def history(self, good: str | None = None, bad: str | None = None) -> History:
        build = self.root.parent / "build"
        return History(self.root, good or self.commits[0], bad or self.commits[-1], build)
