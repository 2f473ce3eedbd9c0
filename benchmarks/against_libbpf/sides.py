"""Both sides of the comparison, on one kernel: what libbpf says, and what `invoke verify` says.

libbpf's answers for an object are kept in the folder of the comparison, one file for each kernel
release, object and version of `reference.c`, since they take long.
"""

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bpfmatrix.host.architecture import X86_64
from bpfmatrix.host.cache import Cache
from bpfmatrix.payload.loaders import libbpf_loader, libbpf_source

REPOSITORY = Path(__file__).parent.parent.parent
_SOURCES = Path(__file__).parent
_RUN_SECONDS = 4 * 3600
_PROGRAM_SECONDS = 400
"""For a program of the reference: it shares the host's cores, and QEMU may emulate them."""
_LOG_BYTES = 4000
_GUESTS_JOBS = 2
_LINK_OPTIONS = ("-Wl,--wrap=btf__load_vmlinux_btf", "-Wl,--wrap=btf__free")


@dataclass(frozen=True)
class Folder:
    """The folder of a comparison: the project that runs it, and what each side said."""

    root: Path

    @property
    def project(self) -> Path:
        """The folder of the project."""
        return self.root / "project"

    def prepare(self, kernels: Sequence[str]) -> None:
        """Write the project: these kernels of our own kernels.yaml, with time and memory."""
        ours = yaml.safe_load((REPOSITORY / "kernels.yaml").read_text())["kernels"]
        self.project.mkdir(parents=True, exist_ok=True)
        data = {
            "defaults": {
                "qemu": {"memory": "2G", "cpus": 2},
                "timeout": {"run": f"{_RUN_SECONDS}s"},
            },
            "kernels": {id: ours[id] for id in kernels},
        }
        _write(self.project / "kernels.yaml", yaml.safe_dump(data))
        _write(self.project / "tasks.py", "from bpfmatrix.tasks import namespace as namespace\n")

    def invoke(self, *words: str, output: Path | None = None) -> int:
        """Run `invoke` in the project, its output to a file or the terminal; return its status."""
        command = [sys.executable, "-m", "invoke", *words]
        if output is None:
            return subprocess.run(command, cwd=self.project, check=False).returncode
        with output.open("wb") as file:
            return subprocess.run(command, cwd=self.project, stdout=file, check=False).returncode


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def build_reference(cache: Cache, folder: Path) -> Path:
    """Build `reference.c` with the libbpf of loader-libbpf; return the program.

    Errors as of `libbpf_loader.build_program`.
    """
    made = folder / "reference-program"
    libbpf_loader.build_program("reference", _SOURCES, _LINK_OPTIONS, X86_64.name, cache, made)
    return made


def reference(
    folder: Folder, kernel: str, objects: Sequence[Path], program: Path
) -> dict[str, list[dict[str, Any]]]:
    """Return what libbpf says on a kernel, for each object a list of what `reference.c` prints.

    An object that is missing took its machine down, or the machine's time.
    """
    key = hashlib.sha256((_SOURCES / "reference.c").read_bytes())
    key.update(libbpf_source.KEY.encode())
    known = {
        object: folder.root
        / "reference"
        / kernel
        / hashlib.sha256(key.digest() + object.read_bytes()).hexdigest()[:32]
        for object in objects
    }
    missing = [object for object in objects if not known[object].exists()]
    if missing:
        (folder.root / "reference" / kernel).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bpfmatrix-reference-") as share:
            _run_reference(folder, kernel, missing, program, Path(share))
            for number, object in enumerate(missing):
                found = Path(share) / f"{number}.bpf.o.json"
                if found.exists():
                    shutil.copy(found, known[object])
    return {
        str(object): [json.loads(line) for line in path.read_text().splitlines()]
        for object, path in known.items()
        if path.exists()
    }


def _run_reference(
    folder: Folder, kernel: str, objects: Sequence[Path], program: Path, share: Path
) -> None:
    shutil.copy(program, share / "reference")
    names = {object: f"{number}.bpf.o" for number, object in enumerate(objects)}
    for object, name in names.items():
        shutil.copy(object, share / name)
    # Large objects last: they take longest.
    order = sorted(objects, key=lambda object: object.stat().st_size)
    command = (
        "./reference",
        str(_GUESTS_JOBS),
        str(_PROGRAM_SECONDS),
        *(names[object] for object in order),
    )
    (share / "run.sh").write_text(f"cd {shlex.quote(str(share))}\n{shlex.join(command)}\n")
    words = ("--kernel", kernel, "--share", f"{share}:rw")
    status = folder.invoke("shell", *words, "--", "sh", str(share / "run.sh"))
    if status != 0:
        print(f"{kernel}: the machine of the reference ended with status {status}", file=sys.stderr)


def verified(folder: Folder, kernel: str, paths: Sequence[Path], *, again: bool) -> dict[str, Any]:
    """Return what `invoke verify` says on a kernel, as its JSON; of the last time unless `again`.

    Each program that failed has `log_end` too: the last lines of its verifier's log.
    """
    kept = folder.root / f"verify-{kernel}.json"
    if again or not kept.exists():
        new = kept.with_suffix(".new")
        words = ("verify", *map(str, paths), "--kernels", kernel, "--json")
        folder.invoke(*words, output=new)
        data: dict[str, Any] = json.loads(new.read_text())[0]
        for one in data["programs"]:
            if one["log"]:
                log = (folder.project / one["log"]).read_bytes()[-_LOG_BYTES:]
                one["log_end"] = log.decode(errors="replace")
        kept.write_text(json.dumps(data))
        new.unlink()
    result: dict[str, Any] = json.loads(kept.read_text())
    return result


def objects_in(paths: Sequence[Path]) -> list[Path]:
    """Return the objects that paths stand for: files, and the `*.o` of folders."""

    def found() -> Iterator[Path]:
        for path in paths:
            yield from sorted(path.glob("*.o")) if path.is_dir() else (path,)

    return list(found())


def programs_of(data: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the programs of `invoke verify`'s JSON, by object and name."""
    return {(one["object"], one["program"]): one for one in data["programs"]}
