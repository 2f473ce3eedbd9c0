"""The rows of the tables of `invoke verify`: one for each program, whatever it was loaded with.

A program has a row for each preset. If several loaders were asked, it has a row for each of them
where they do not agree, and otherwise one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import ProgramResult, Verification
from bpfmatrix.verify.selection import Result, Selection

__all__ = ["ProgramRow", "label", "make_rows", "results_of"]

_EVERYTHING = Selection()

Cells = tuple[ProgramResult | None, ...]
"""The results of a program, one for each kernel; None where the program was not tried."""


@dataclass(frozen=True)
class ProgramRow:
    """A row: a program of an object, on each kernel."""

    object: str
    program: str
    preset: str
    loader: str
    """The loader that the row is about; empty if all that were asked agree, or one was asked."""
    cells: Cells

    @property
    def label(self) -> str:
        """The program's name, with its preset and its loader."""
        return label(self.program, self.preset, self.loader)

    @property
    def all_loaded(self) -> bool:
        """Whether the program loaded on each kernel, and was expected to."""
        return all(
            one is not None and one.outcome is Outcome.PASSED and not one.expected
            for one in self.cells
        )

    @property
    def loaded_somewhere(self) -> bool:
        """Whether the program loaded on one of the kernels at least."""
        return any(one is not None and one.outcome is Outcome.PASSED for one in self.cells)


def label(program: str, preset: str, loader: str) -> str:
    """Return how a program is named, such as `on_exec (aya, small)`."""
    parts = ", ".join(filter(None, (loader, preset)))
    return f"{program} ({parts})" if parts else program


def make_rows(
    verifications: Sequence[Verification], selection: Selection = _EVERYTHING
) -> list[ProgramRow]:
    """Return the rows in the order of the results, the programs of an object together.

    Of a program that has results with several loaders, those that a selection shows count.
    """
    found: dict[tuple[str, str, str], dict[str, list[ProgramResult | None]]] = {}
    for number, one in enumerate(verifications):
        for result in one.programs:
            loaders = found.setdefault((result.object, result.program, result.preset), {})
            cells = loaders.setdefault(result.loader, [None] * len(verifications))
            cells[number] = result
    objects = list(dict.fromkeys(object for object, _, _ in found))
    places = {object: number for number, object in enumerate(objects)}
    rows: list[ProgramRow] = []
    for (object, program, preset), by_loader in found.items():
        loaders = {
            name: cells
            for name, cells in by_loader.items()
            if any(
                cell is not None and selection.shows((one, cell))
                for one, cell in zip(verifications, cells, strict=True)
            )
        } or by_loader
        if _agree(loaders.values()):
            (cells, *_) = loaders.values()
            rows.append(ProgramRow(object, program, preset, "", tuple(cells)))
        else:
            rows += [
                ProgramRow(object, program, preset, loader, tuple(cells))
                for loader, cells in loaders.items()
            ]
    return sorted(rows, key=lambda row: places[row.object])


def _agree(loaders: Iterable[Sequence[ProgramResult | None]]) -> bool:
    """Whether the loaders have the same outcome and code on each kernel."""
    return len({tuple(one and (one.outcome, one.code) for one in cells) for cells in loaders}) == 1


def results_of(verifications: Sequence[Verification], row: ProgramRow) -> list[Result]:
    """Return the results that a row is about, each with its kernel."""
    pairs = zip(verifications, row.cells, strict=True)
    return [(one, result) for one, result in pairs if result is not None]
