"""Results for the tests of reports.

There are strategies for results with any content, names that look like markup, and the files of two
results.
"""

from pathlib import Path

from hypothesis import strategies as st

from bpfmatrix.report.model import Result
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun, Leftover, TestResult
from bpfmatrix.results.outcome import KernelWarning, Outcome
from bpfmatrix.results.verification import ProgramResult, Verification
from tests.verify import strategies as verify

# Text that a reader of a report could take for markup.
WILD = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "a|b`c``d```e",
    "*x* _y_ [z](http://example.org) @team #12 :tada: www.example.org ~~q~~",
    "# heading\n\n- item\n> quote\n```\n",
    "\x1b[31mred\x1b[0m \x00\x08\x7f",
    "</code></pre></details>",
    "&lt;&#60;&amp;amp;",
    "größe 测试 \N{PILE OF POO} \u202e",
    "{{ 7 * 7 }} {% raw %}",
    "__proto__",
    "constructor",
    "",
)
texts = (
    st.sampled_from(WILD)
    | st.text(max_size=20)
    | st.builds(str.__add__, st.sampled_from(WILD), st.text(max_size=3))
)

tests = st.builds(
    TestResult,
    texts,
    texts,
    st.sampled_from(Outcome),
    st.floats(0, 1e6),
    texts,
    texts,
    st.just("") | texts,
)
warnings = st.builds(KernelWarning, texts, st.lists(texts, max_size=3).map(tuple), texts, texts)
runs = st.builds(
    KernelRun,
    st.sampled_from(("5.10", "6.1", "7.3", "6.1-arm64")) | texts,
    st.sampled_from(Outcome),
    texts,
    release=texts,
    version=st.sampled_from(("5.10.262", "6.1.192", "")) | texts,
    arch=st.sampled_from(("x86_64", "aarch64")),
    seconds=st.floats(0, 1e6),
    started_at=texts,
    tests=st.lists(tests, max_size=4).map(tuple),
    warnings=st.lists(warnings, max_size=2).map(tuple),
    leftovers=st.lists(st.builds(Leftover, texts, texts), max_size=2).map(tuple),
    console=st.just(""),
)
results = st.builds(Result, runs | verify.verifications, name=texts)
several = st.lists(results, max_size=4)

RUN = KernelRun(
    "6.1",
    Outcome.PASSED,
    tests=(TestResult("t", "a", Outcome.PASSED),),
    console=".bpfmatrix/results/6.1/console.log",
)
VERIFIED = Verification(
    "6.1", Outcome.PASSED, programs=(ProgramResult("a.o", "p", Outcome.PASSED),)
)


def artifact(folder: Path) -> Path:
    """Write results and a log as CI uploads them; return the folder."""
    files.write(RUN, folder / "results/6.1.json")
    files.write(VERIFIED, folder / "verify/6.1.json")
    (folder / "results/6.1").mkdir()
    (folder / "results/6.1/console.log").write_text("booting")
    return folder
