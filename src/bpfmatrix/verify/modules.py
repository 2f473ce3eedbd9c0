"""Modules of a kernel that are not loaded: which one contains what a program needs.

A program that attaches to a function of a module, or calls a kfunc of it, loads only if the module
is loaded. The kernel does not know what is in the others, but the host has their files.
"""

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

from bpfmatrix.guest import modules as guest_modules
from bpfmatrix.kernels.image import KernelImage

__all__ = ["UnloadedModules"]

_SHN_UNDEF = "SHN_UNDEF"


class UnloadedModules:
    """The modules that a kernel has and that a guest does not load. Files are read when asked."""

    def __init__(self, image: KernelImage, wanted: Iterable[str]) -> None:
        """`wanted` are the modules that kernels.yaml has the guest load."""
        self._image = image
        self._wanted = tuple(wanted)
        self._answers: dict[tuple[str, str], str] = {}

    def having(self, kind: str, name: str) -> str:
        """Return the name of a module with a `function`, a `symbol` or a `struct_ops`.

        It is empty if none has it.
        """
        key = (kind, name)
        if key not in self._answers:
            self._answers[key] = self._search(kind, name)
        return self._answers[key]

    def _search(self, kind: str, name: str) -> str:
        folder = self._image.modules
        if folder is None or not name or "\0" in name:
            return ""
        loaded = guest_modules.loaded(self._image, self._wanted)
        # BTF has a type of this name for each struct_ops (register_bpf_struct_ops).
        text = f"bpf_struct_ops_{name}" if kind == "struct_ops" else name
        for path in sorted(folder.rglob("*.ko")):
            module = guest_modules.name_of(path)
            if module in loaded or not _contains(path, text):
                continue
            if kind == "struct_ops" or name in _defined(path, only_functions=kind == "function"):
                return module
        return ""


def _contains(path: Path, text: str) -> bool:
    """Tell whether a file has a text as a whole string of its string tables."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            return data.find(b"\0" + text.encode() + b"\0") >= 0
    except (OSError, ValueError):  # ValueError: the file is empty
        return False


def _defined(path: Path, *, only_functions: bool) -> set[str]:
    """Return the symbols that a module defines; it may import others of the same table."""
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415
    from elftools.elf.sections import SymbolTableSection  # noqa: PLC0415

    def symbols(elf: ELFFile) -> Iterator[str]:
        for section in elf.iter_sections("SHT_SYMTAB"):
            if isinstance(section, SymbolTableSection):
                for symbol in section.iter_symbols():
                    is_function = symbol["st_info"]["type"] == "STT_FUNC"
                    if symbol["st_shndx"] != _SHN_UNDEF and (is_function or not only_functions):
                        yield symbol.name

    try:
        with path.open("rb") as file:
            return set(symbols(ELFFile(file)))
    except (OSError, ELFError):
        return set()
