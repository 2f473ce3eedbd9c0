"""Strategies for results with any content, and names that look like markup."""

from hypothesis import strategies as st

from bpfmatrix.report.model import Result
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
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
    console=st.just(""),
)
results = st.builds(Result, runs | verify.verifications, name=texts)
several = st.lists(results, max_size=4)
