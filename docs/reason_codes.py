"""The table of docs/reason-codes.md, made from the package's texts by `invoke docs`."""

from pathlib import Path

from bpfmatrix.report.reason_codes import EXPLANATIONS

__all__ = ["outputs"]

BEGIN, END = "<!-- table: invoke docs writes it -->", "<!-- end of the table -->"


def outputs(root: Path) -> dict[Path, str]:
    """Return the page with its table, of the checkout in `root`."""
    page = root / "docs/reason-codes.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"docs/reason-codes.md lacks the marks {BEGIN!r} and {END!r}")
    return {page: f"{before}{BEGIN}\n\n{_table()}\n\n{END}{after}"}


def _table() -> str:
    lines = ["| code | meaning | what to do |", "| --- | --- | --- |"]
    lines += [
        f"| `{code}` | {one.meaning} | {_advice(one.advice)} |"
        for code, one in EXPLANATIONS.items()
    ]
    return "\n".join(lines)


def _advice(text: str) -> str:
    """Return advice with its commands as the pages write them; the texts have invoke's form."""
    return text.replace("`invoke ", "`bpfmatrix ")
