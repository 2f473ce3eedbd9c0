"""What the header and the segments of an ELF file say: whether it can run, where, and by what."""

from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import PayloadError

__all__ = ["ElfFacts"]


@dataclass(frozen=True)
class ElfFacts:
    """The type and the machine of an ELF file, and the loader that it needs."""

    type: str
    """Such as `ET_EXEC`."""
    machine: int
    machine_name: str
    """Such as `x86_64`; a number if pyelftools does not know the machine."""
    loader: str = ""
    """The path of the dynamic loader; empty for a static executable."""

    @classmethod
    def read(cls, path: Path) -> "ElfFacts":
        """Read the facts of a file; PayloadError if it is damaged."""
        from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
        from elftools.elf.elffile import ELFFile  # noqa: PLC0415
        from elftools.elf.enums import ENUM_E_MACHINE  # noqa: PLC0415
        from elftools.elf.segments import InterpSegment  # noqa: PLC0415

        try:
            with path.open("rb") as file:
                elf = ELFFile(file)
                machine = elf["e_machine"]
                loaders = [s for s in elf.iter_segments() if isinstance(s, InterpSegment)]
                loader = loaders[0].get_interp_name() if loaders else ""
                number = ENUM_E_MACHINE.get(machine, machine)
                name = str(machine).removeprefix("EM_").lower()
                return cls(str(elf["e_type"]), number, name, str(loader))
        except (ELFError, OSError, ValueError) as error:  # OSError: a seek to an impossible offset
            raise PayloadError(
                f"{path} is a damaged ELF file: {error}", "Build it again."
            ) from error
