"""Making a kernel's warm template before its first run."""

from pathlib import Path
from tempfile import TemporaryDirectory

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import event_loop
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.session.preparation import prepare
from bpfmatrix.session.project_payload import project_payload
from bpfmatrix.vm import template
from bpfmatrix.vm.machine import MachineEndedError
from bpfmatrix.vm.protocol import ProtocolError
from bpfmatrix.vm.template import Template

__all__ = ["warm"]


def warm(
    project: Project, id: str, options: SessionOptions, observer: Observer
) -> tuple[Template, bool]:
    """Return the template of a kernel for sessions with these options, and whether it is new.

    BpfmatrixError if the kernel can't be prepared, or no template of it can be made.
    """
    kernel = project.config.kernel(id)
    payload = project_payload(project, kernel.arch, (), options, observer)
    prepared = prepare(project, kernel, payload, options, observer)
    observer.doing(id, "boot", "making the template")
    with TemporaryDirectory() as folder:
        console = Path(folder) / "console.log"
        making = template.get(prepared.spec, project.cache, prepared.image.label, console)
        try:
            return event_loop.run(making)
        except (template.TemplateError, MachineEndedError, ProtocolError) as error:
            raise BpfmatrixError(f"{id}: no template could be made: {error}") from error
