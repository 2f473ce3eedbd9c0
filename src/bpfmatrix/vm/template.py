"""Warm templates: machines that were booted once, and are restored for each run.

A template is a folder of the cache: the guest's memory, the state of its devices, and what its
kernel said while it booted. Its name is made of the content of everything that shaped it, so a
template of another kernel, QEMU or machine option is never found. `get` gives one, made if there
is none; `discard` is for one that did not come back.
"""

import contextlib
import dataclasses
import glob
import json
import os
import platform
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import MachineError
from bpfmatrix.host import locks
from bpfmatrix.host.cache import Cache, Pruned
from bpfmatrix.host.checksum import key_of, sha256_of
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.vm import launch, machine, parts
from bpfmatrix.vm.channels import CHANNELS
from bpfmatrix.vm.launch import MachineSpec

__all__ = ["Template", "TemplateError", "discard", "find", "get", "of_kernel", "prune", "restored"]

# Counts changes of what a template holds or of how it is made.
_FORMAT = 1
_DESCRIPTION = "template.json"
# What a booted guest of 512 MB has been seen to fill is 69 to 131 MB.
_WANTED_FREE_BYTES = 512 << 20
_KEPT_SECONDS = 14 * 24 * 3600


class TemplateError(Exception):
    """A template could not be made; a cold boot may still work."""


@dataclass(frozen=True)
class Template:
    """A saved machine."""

    folder: Path

    @property
    def memory(self) -> Path:
        """The guest's memory. It is sparse."""
        return self.folder / "memory"

    @property
    def state(self) -> Path:
        """The state of the devices, as QEMU saves it."""
        return self.folder / "state"

    @property
    def console(self) -> Path:
        """What the kernel said while it booted."""
        return self.folder / "console.log"

    @property
    def bytes_on_disk(self) -> int:
        """What it really takes."""
        return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())

    def damage(self) -> str:
        """Say what is not as it was when it was made; empty where it is whole.

        The memory is not read for that, which would take longer than a run: it is known by its
        size and time, and the state by its checksum.
        """
        try:
            known = json.loads((self.folder / _DESCRIPTION).read_bytes())
            found = self._description()
            changed = [name for name, content in found.items() if known[name] != content]
        except (ValueError, KeyError, TypeError):
            return f"{_DESCRIPTION} can't be read"
        except OSError as error:
            return f"{Path(error.filename).name}: {error.strerror}"
        return f"its {' and '.join(changed)} changed" if changed else ""

    def describe(self) -> None:
        """Write down what its files are; that makes it whole."""
        (self.folder / _DESCRIPTION).write_text(json.dumps(self._description()))

    def _description(self) -> dict[str, object]:
        memory = self.memory.stat()
        self.console.stat()
        return {
            "memory": [memory.st_size, memory.st_mtime_ns],
            "state": sha256_of(self.state),
        }


def key(spec: MachineSpec) -> str:
    """Return what a template is known by: a checksum of all that shapes a machine.

    The kernel and the initramfs are in their paths, which are made of their contents; of the
    payload only the size counts, for the disk is not read before the job.
    """
    fds = dict.fromkeys(CHANNELS, 0)
    shape = dataclasses.replace(spec, payload=Path("payload"))
    command = parts.command(spec.qemu, launch.machine_parts(shape, fds))
    qemu = Path(shutil.which(spec.qemu) or spec.qemu).resolve().stat()
    known = (
        _FORMAT,
        command,
        [qemu.st_size, qemu.st_mtime_ns],
        spec.memory_bytes,
        spec.payload.stat().st_size,
        # Under KVM the guest sees the host's processor.
        _host_cpu() if spec.accelerator == "kvm" else "",
    )
    return key_of(known)[:24]


def _host_cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "flags", "CPU part")):
                return line
    return platform.machine()


def find(spec: MachineSpec, cache: Cache, label: str) -> Template | None:
    """Return the template of such a machine if there is one that is whole."""
    template = Template(_folder(cache, spec, label))
    if template.damage():
        return None
    with contextlib.suppress(OSError):
        os.utime(template.folder)  # still in use: see prune
    return template


def of_kernel(cache: Cache, label: str) -> list[Template]:
    """Return the templates that are kept of one kernel: one for each shape of its machine."""
    # The rest of the name is the key, without a dash.
    folders = (cache.root / "templates").glob(f"{glob.escape(label)}-*")
    return [
        Template(folder) for folder in sorted(folders) if "-" not in folder.name[len(label) + 1 :]
    ]


async def get(
    spec: MachineSpec, cache: Cache, label: str, console: Path, discarded: Progress = silent
) -> tuple[Template, bool]:
    """Return the template of such a machine, and whether it had to be made for that.

    `label` is the begin of its name, for people; `console` takes what the kernel says if it is
    booted; `discarded` hears what was wrong with one that was there. TemplateError where it can't
    be made; MachineEndedError where the guest does not come up.
    """
    if found := find(spec, cache, label):
        return found, False
    folder = _folder(cache, spec, label)
    async with _lock(cache, folder.name):
        if found := find(spec, cache, label):  # another process made it
            return found, False
        if folder.exists():
            discarded(Template(folder).damage())
            discard(Template(folder), cache)
        await _make(spec, cache, folder, console)
    if found := find(spec, cache, label):
        return found, True
    raise TemplateError("it was removed or changed right after it was made")


def _folder(cache: Cache, spec: MachineSpec, label: str) -> Path:
    return cache.root / "templates" / f"{label}-{key(spec)}"


async def _make(spec: MachineSpec, cache: Cache, target: Path, console: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < _WANTED_FREE_BYTES:
            raise TemplateError(f"the cache's disk has only {free >> 20} MB left")
        with cache.staging() as staging:
            # A disk without content, so that nothing of a payload can be in the guest's caches.
            empty = staging / "empty"
            with empty.open("wb") as file:
                file.truncate(spec.payload.stat().st_size)
            made = Template(staging / "template")
            made.folder.mkdir()
            empty_spec = dataclasses.replace(spec, payload=empty, folders=())
            async with launch.start(empty_spec, console, made.memory) as guest:
                await guest.save(made.state)
            shutil.copyfile(console, made.console)
            made.describe()
            made.folder.replace(target)
    except OSError as error:
        raise TemplateError(error.strerror or str(error)) from error
    except MachineError as error:
        raise TemplateError(error.what) from error
    except machine.MachineEndedError as ended:
        # On a full disk, QEMU dies where the guest writes to a page that has no block yet.
        if ended.kind == "lost":
            raise TemplateError(ended.reason) from ended
        raise
    prune(cache, older_than_seconds=_KEPT_SECONDS)


@contextlib.asynccontextmanager
async def restored(
    template: Template, spec: MachineSpec, console: Path, host_name: str
) -> AsyncIterator[machine.Machine]:
    """Give a machine that was restored from a template and is ready; RestoreError if none is.

    `console` begins with what the kernel said when the template was booted.
    """
    try:
        shutil.copyfile(template.console, console)
    except OSError as error:  # pruned by another process just now
        raise launch.RestoreError(error.strerror or str(error)) from error
    async with launch.restore(spec, console, template.memory, template.state, host_name) as guest:
        yield guest


def discard(template: Template, cache: Cache) -> None:
    """Remove a template. Machines that were restored from it keep their files open."""
    # Away by one rename first, so that no other process finds half of it.
    with contextlib.suppress(OSError), cache.staging() as staging:
        template.folder.replace(staging / "discarded")


def prune(cache: Cache, older_than_seconds: float = 0.0) -> list[Pruned]:
    """Remove templates that were not used for so long."""
    removed = []
    for folder in sorted((cache.root / "templates").glob("*")):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime >= older_than_seconds:
                template = Template(folder)
                removed.append(Pruned(f"template {folder.name}", template.bytes_on_disk))
                discard(template, cache)
    return removed


@contextlib.asynccontextmanager
async def _lock(cache: Cache, name: str) -> AsyncIterator[None]:
    """Hold the cache's lock of this name without holding up the machines of this loop."""
    path = cache.root / "locks" / f"template-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    async with locks.locked_in_loop(path):
        yield
