"""The eBPF objects, built by the Makefile of their folder (`payload.ebpf` in kernels.yaml).

An object has a byte order, as the processor has. So those for a big-endian guest (s390x) are
others: `make BPF_TARGET=bpfeb` builds them, in the folder `bpfeb`, with the same names.
"""

import os
from pathlib import Path
from typing import Any

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BuildError, ConfigError
from bpfmatrix.host import records, tools
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.integrity import Checked, measure, settle
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.payload.declared import makefile_of
from bpfmatrix.payload.incremental import BuiltFiles, build_lock, run, stamp

__all__ = ["BIG_ENDIAN", "clean", "objects", "requirement"]

# The section in which an object states which kernel it needs (ebpf/requires.h).
_REQUIRES_SECTION = ".bpfmatrix.requires"
BIG_ENDIAN = "bpfeb"
"""clang's target for big-endian eBPF, and the folder of its objects."""
_COMPILERS = ("clang", *(f"clang-{version}" for version in range(17, 30)))


def objects(
    project: Project,
    progress: Progress = silent,
    ask_make: bool = False,
    big_endian: bool = False,
) -> BuiltFiles:
    """Build the eBPF objects with `make`; BuildError shows what the compiler said.

    ConfigError if kernels.yaml names a folder in which there is nothing for `make` to do.

    `big_endian` asks for those of guests with this byte order. `make` takes 0.1 s to find that
    nothing changed. So it only runs if a file of the folder, or one that its `*.d` files name,
    changed since the last time, or if `ask_make` is true.
    """
    folder = project.config.payload.ebpf
    if folder is None:
        return BuiltFiles((), changed=False)
    if makefile_of(project.root / folder) is None:
        if "ebpf" in project.config.payload.model_fields_set:
            raise _no_makefile(folder)
        return BuiltFiles((), changed=False)
    make = tools.require("make", "make")
    where, record = project.root / folder, project.state / "build" / "ebpf.json"
    made, said, variables = where, f"make -C {folder}", []
    if big_endian:
        made, record = where / BIG_ENDIAN, record.with_name(f"ebpf-{BIG_ENDIAN}.json")
        variables = [f"BPF_TARGET={BIG_ENDIAN}"]
        said += f" {variables[0]}"
    with build_lock(project):
        before = _objects_key(where, made)
        if not ask_make and before and (known := records.read(record)) and known["key"] == before:
            if not (damaged := _damaged(made, known.get("files"))):
                return BuiltFiles(_objects_in(made), changed=False)
            # make would not see it: the file has the size and the time that make gave it.
            for path in damaged:
                announce(progress, f"{path.name} changed since it was built; building it again")
                path.unlink()
        progress(said)
        jobs = str(os.cpu_count() or 1)
        command = [str(make), "--no-print-directory", "-j", jobs, "-C", str(where), *variables]
        run(command, project.root)
        files, after = _objects_in(made), _objects_key(where, made)
        record.parent.mkdir(parents=True, exist_ok=True)
        for file in files:
            settle(file)
        checked = {file.name: measure(file).to_json() for file in files}
        records.write(record, {"key": after, "files": checked})
    if not files:
        raise BuildError(
            f"{said} left no *.o file in {project.relative(made)}",
            "For a big-endian guest, the Makefile must build objects with clang's target "
            f"{BIG_ENDIAN} there; ebpf/Makefile of bpfmatrix is an example."
            if big_endian
            else "",
        )
    return BuiltFiles(files, changed=before != after)


def _objects_in(folder: Path) -> tuple[Path, ...]:
    # Opening a FIFO of this name would wait.
    return tuple(sorted(path for path in folder.glob("*.o") if path.is_file()))


def _no_makefile(folder: Path) -> ConfigError:
    return ConfigError(
        f"kernels.yaml: payload.ebpf: {folder} has no Makefile",
        "Add one that builds *.o files there. Objects that are built already are named by\n"
        f'       verify: {{objects: [{{path: "{folder}/*.o"}}]}}, and payload.ebpf is then null.',
    )


def _damaged(folder: Path, files: Any) -> list[Path]:
    """Return the objects that do not have the content that they were built with."""
    known = {folder / name: Checked.from_json(value) for name, value in (files or {}).items()}
    return [path for path, one in known.items() if measure(path, one).sha256 != one.sha256]


def _objects_key(folder: Path, made: Path) -> str:
    """Return a checksum of the files in both folders, of those that the `*.d` files of `made` name,
    and of clang.

    Empty if there is no `*.d` file: then only make knows what the objects depend on.
    """
    depends = [path.read_text().replace("\\\n", " ") for path in made.glob("*.d")]
    if not depends:
        return ""
    named = {folder / word for text in depends for word in text.split() if word[-1:] != ":"}
    files = {path for path in (*named, *folder.iterdir(), *made.iterdir()) if path.is_file()}
    compiler = [tool.resolve() for name in _COMPILERS if (tool := tools.find(name))]
    return key_of(stamp({*files, *compiler}))


def requirement(path: Path) -> str:
    """Return which kernel an eBPF object states that it needs, such as `5.17 bpf_loop`, or `""`.

    BuildError if the file is not an ELF object.
    """
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            section = ELFFile(file).get_section_by_name(_REQUIRES_SECTION)
            data: bytes = section.data() if section else b""
    except ELFError as error:
        raise BuildError(f"{path} is not an ELF object: {error}", "Build it again.") from error
    return data.partition(b"\0")[0].decode(errors="replace")


def clean(project: Project) -> None:
    """Remove the eBPF objects, by the `clean` target of their Makefile."""
    folder = project.config.payload.ebpf
    if folder is not None and (project.root / folder / "Makefile").exists():
        make = tools.require("make", "make")
        run([str(make), "-C", str(project.root / folder), "clean"], project.root)
