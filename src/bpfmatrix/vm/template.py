"""Warm templates: machines that are booted once, saved, and restored for each run.

A template is a folder of the cache with the guest's memory, the state of its devices, and the text
of the kernel's console. Its name has a checksum of everything that shapes the machine, so a
template of another kernel, another QEMU or other options is never found. `get` gives a template,
and makes it if there is none; `discard` removes one that could not be restored.
"""

import asyncio
import contextlib
import dataclasses
import glob
import os
import platform
import shutil
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import MachineError
from bpfmatrix.host import locks
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache, Pruned
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.integrity import Checked, checked_files, keep_checked, measure, settle
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.vm import launch, machine, parts
from bpfmatrix.vm.channels import CHANNELS
from bpfmatrix.vm.launch import MachineSpec

__all__ = [
    "Template",
    "TemplateError",
    "discard",
    "find",
    "get",
    "held",
    "obstacle",
    "of_kernel",
    "prune",
    "restored",
]

# To be increased when the content of templates, or the way in which they are made, changes.
_FORMAT = 2
_DESCRIPTION = "template.json"
# Booted guests with 512 MB of memory took 69 to 131 MB of it.
_NEEDED_FREE_BYTES = 512 << 20
_KEPT_SECONDS = 14 * 24 * 3600


class TemplateError(Exception):
    """A template could not be made. A cold boot may still work."""


@dataclass(frozen=True)
class Template:
    """A saved machine."""

    folder: Path

    @property
    def memory(self) -> Path:
        """The guest's memory, a sparse file."""
        return self.folder / "memory"

    @property
    def state(self) -> Path:
        """The state of the devices, in QEMU's migration format."""
        return self.folder / "state"

    @property
    def console(self) -> Path:
        """What the kernel wrote to its console while it booted."""
        return self.folder / "console.log"

    @property
    def bytes_on_disk(self) -> int:
        """How much of the disk it takes."""
        return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())

    def damage(self) -> str:
        """Return what changed since the template was made, or `""` if nothing did.

        Each file is compared by its identity, and only read if that is another one (see
        `host.integrity`, also for what this can't see). To read the memory takes some 0.2 s.
        """
        record = self.folder / _DESCRIPTION
        try:
            record.stat()
            known = checked_files(record)
            if known.keys() != self._files().keys():
                return f"{_DESCRIPTION} can't be read"
            found = self._measured(known)
        except OSError as error:
            return f"{Path(error.filename or record).name}: {error.strerror}"
        changed = [name for name, one in found.items() if one.sha256 != known[name].sha256]
        if not changed and found != known:
            with contextlib.suppress(OSError):  # the files are read again each time
                keep_checked(record, found)
        return f"its {' and '.join(changed)} changed" if changed else ""

    def describe(self) -> None:
        """Write template.json, with which `damage` compares; a template is complete with it.

        OSError if that fails.
        """
        for path in self._files().values():
            settle(path)
        keep_checked(self.folder / _DESCRIPTION, self._measured({}))

    def _measured(self, known: Mapping[str, Checked]) -> dict[str, Checked]:
        return {
            # Most of the memory is a hole.
            name: measure(path, known.get(name), holes=path == self.memory)
            for name, path in self._files().items()
        }

    def _files(self) -> dict[str, Path]:
        return {"memory": self.memory, "state": self.state, "console": self.console}


def key(spec: MachineSpec) -> str:
    """Return the key of a template: a checksum of everything that shapes the machine.

    The kernel and the initramfs count by their paths, which contain checksums of their contents.
    A disk only counts by its size, since the guest does not read it before the job.
    """
    fds = dict.fromkeys(CHANNELS, 0)
    shape = spec.with_disks({name: Path(name) for name in spec.disks})
    command = parts.command(spec.qemu, launch.machine_parts(shape, fds))
    qemu = Path(shutil.which(spec.qemu) or spec.qemu).resolve().stat()
    known = (
        _FORMAT,
        command,
        [qemu.st_size, qemu.st_mtime_ns],
        spec.memory_bytes,
        [image.stat().st_size for image in spec.disks.values()],
        # Under KVM, the guest has the processor of the host.
        _host_cpu() if spec.accelerator == "kvm" else "",
    )
    return key_of(known)[:24]


def _host_cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "flags", "CPU part")):
                return line
    return platform.machine()


def obstacle(spec: MachineSpec) -> str:
    """Return why there are no templates of such a machine, or `""` if there can be."""
    if ARCHITECTURES[spec.arch].can_be_restored:
        return ""
    return f"no templates: QEMU loses the timers of a restored {spec.arch} guest"


def find(spec: MachineSpec, cache: Cache, label: str) -> Template | None:
    """Return the template of such a machine, if there is one without damage."""
    template = Template(_folder(cache, spec, label))
    if template.damage():
        return None
    with contextlib.suppress(OSError):
        os.utime(template.folder)  # it is still in use: see prune
    return template


def of_kernel(cache: Cache, label: str) -> list[Template]:
    """Return the templates of one kernel: one for each different machine that booted it."""
    # After the label, the name has only the key, which has no dash.
    folders = (cache.root / "templates").glob(f"{glob.escape(label)}-*")
    return [
        Template(folder) for folder in sorted(folders) if "-" not in folder.name[len(label) + 1 :]
    ]


async def get(
    spec: MachineSpec, cache: Cache, label: str, console: Path, discarded: Progress = silent
) -> tuple[Template, bool]:
    """Return the template of such a machine, and whether it was made just now.

    `label` is the readable beginning of its name. If the kernel is booted, its console goes to
    `console`. `discarded` is told what was wrong with a damaged template. TemplateError if the
    template can't be made; MachineEndedError if the guest does not become ready.
    """
    if why := obstacle(spec):
        raise TemplateError(why)
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
        if free < _NEEDED_FREE_BYTES:
            raise TemplateError(f"the cache's disk has only {free >> 20} MB left")
        with cache.staging() as staging:
            # The disks are empty, so that the guest has nothing of one in its page cache.
            empty = {name: staging / f"empty-{name}" for name in spec.disks}
            for name, image in spec.disks.items():
                with empty[name].open("wb") as file:
                    file.truncate(image.stat().st_size)
            made = Template(staging / "template")
            made.folder.mkdir()
            empty_spec = dataclasses.replace(spec.with_disks(empty), folders=())
            async with launch.start(empty_spec, console, made.memory) as guest:
                await guest.save(made.state)
            shutil.copyfile(console, made.console)
            # Other machines of this loop go on meanwhile.
            await asyncio.to_thread(made.describe)
            made.folder.replace(target)
    except OSError as error:
        raise TemplateError(error.strerror or str(error)) from error
    except MachineError as error:
        raise TemplateError(error.what) from error
    except machine.MachineEndedError as ended:
        # On a full disk, QEMU is killed by SIGBUS when the guest writes to a hole of the memory.
        if ended.kind == "lost":
            raise TemplateError(ended.reason) from ended
        raise
    prune(cache, older_than_seconds=_KEPT_SECONDS)


@contextlib.asynccontextmanager
async def restored(
    template: Template, spec: MachineSpec, console: Path, host_name: str
) -> AsyncIterator[machine.Machine]:
    """Give a machine that was restored from a template and is ready, or raise RestoreError.

    `console` begins with the console of the template's boot.
    """
    _copy_console(template, console)
    async with launch.restore(spec, console, template.memory, template.state, host_name) as guest:
        yield guest


@contextlib.asynccontextmanager
async def held(
    template: Template, spec: MachineSpec, console: Path, host_name: str, gdb: socket.socket
) -> AsyncIterator[machine.Machine]:
    """Give a machine that was restored from a template and waits for gdb, or raise RestoreError.

    `console` begins with the console of the template's boot. For `gdb`, see `launch.debugged`.
    """
    _copy_console(template, console)
    saved = template.memory, template.state
    async with launch.debugged(spec, console, gdb, saved, host_name) as guest:
        yield guest


def _copy_console(template: Template, console: Path) -> None:
    try:
        shutil.copyfile(template.console, console)
    except OSError as error:  # another process has removed the template
        raise launch.RestoreError(error.strerror or str(error)) from error


def discard(template: Template, cache: Cache) -> None:
    """Remove a template. Machines that were restored from it still have its files open."""
    # It is moved away first, so that no other process finds a part of it.
    with contextlib.suppress(OSError), cache.staging() as staging:
        template.folder.replace(staging / "discarded")


def prune(cache: Cache, older_than_seconds: float = 0.0) -> list[Pruned]:
    """Remove the templates that were not used for so long, and return what was removed."""
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
