"""The invoke tasks of a project with a kernels.yaml: its tasks.py imports `namespace`.

Each task turns its options into one call of the library, and that into an exit status.
"""

from invoke.collection import Collection

from bpfmatrix.cli.tasks import ci, hooks, kernels
from bpfmatrix.cli.tasks.bisect import bisect
from bpfmatrix.cli.tasks.build import clean, ebpf, initramfs, test_binaries
from bpfmatrix.cli.tasks.bytecode_lines import bytecode_lines
from bpfmatrix.cli.tasks.completion import completion
from bpfmatrix.cli.tasks.debug import debug
from bpfmatrix.cli.tasks.doctor import doctor
from bpfmatrix.cli.tasks.exec import exec_command
from bpfmatrix.cli.tasks.init import init
from bpfmatrix.cli.tasks.logs import logs
from bpfmatrix.cli.tasks.profile import profile_python
from bpfmatrix.cli.tasks.report import report
from bpfmatrix.cli.tasks.run import matrix, pre_push, run, watch
from bpfmatrix.cli.tasks.shell import shell
from bpfmatrix.cli.tasks.sweep import sweep
from bpfmatrix.cli.tasks.verify import verify

__all__ = ["namespace"]

# In the order in which people meet them; `invoke -l` keeps it.
namespace = Collection(
    *(init, doctor, run, shell, exec_command, debug, verify, matrix, pre_push, report, bisect),
    *(sweep, watch, logs),
    *(ebpf, test_binaries, initramfs, bytecode_lines, profile_python, clean),
    completion,
    Collection(
        "kernels",
        *(kernels.list_kernels, kernels.fetch, kernels.update, kernels.search, kernels.build),
        *(kernels.push, kernels.archive, kernels.prune),
    ),
    Collection("hooks", hooks.install),
    Collection("ci", ci.plan, ci.comment),
)
