"""What `invoke verify --annotate` prints: a program's source, with what each line costs."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bpfmatrix.cli.console import make_console
from bpfmatrix.verify.source_lines import AnnotatedLine, AnnotatedProgram

__all__ = ["print_annotated"]

_BAR_CHARACTERS = 8
# A line is red if it has at least this part of the walks of the line with the most.
_HOT = 1 / 4


def print_annotated(program: str, release: str, found: AnnotatedProgram) -> None:
    """Print the source of a program: for each line its instructions, and the verifier's walks."""
    console = make_console()
    console.print(
        f"{program} on {release}: {found.instructions:,} instructions, walked {found.walks:,} times"
    )
    most = max((line.walks or 0 for lines in found.files.values() for line in lines), default=0)
    for file, lines in found.files.items():
        console.print()
        header = f"{'insns':>6} {'walked':>9} {'':>6}            "
        console.print(Text.assemble((header, "dim"), file))
        _print_lines(console, lines, found.walks, most)
    if found.unknown_walks:
        console.print(f"{found.unknown_walks:,} walks of instructions without a line")


def _print_lines(
    console: Console, lines: Sequence[AnnotatedLine], all_walks: int, most: int
) -> None:
    block = "█" if console.encoding.lower().startswith("utf") else "#"
    before = None
    for line in lines:
        if before is not None and line.number > before + 1:
            console.print(Text(f"{'':>23}       ...", "dim"))
        before = line.number
        cells, walks = f"{'':>6} {'':>9} {'':>6} {'':<8}", line.walks or 0
        if line.instructions is not None:
            share = f"{walks / all_walks:.0%}" if all_walks else ""
            bar = block * round(_BAR_CHARACTERS * walks / most) if most else ""
            cells = f"{line.instructions:>6,} {walks:>9,} {share:>6} {bar:<8}"
        style = "red" if walks and walks >= most * _HOT else ""
        source = f" {line.text}".expandtabs(4)
        console.print(Text.assemble((cells, style), (f" {line.number:>5}", "dim"), source))
