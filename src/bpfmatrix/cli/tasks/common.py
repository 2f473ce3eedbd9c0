"""What the tasks share: how one is declared, and how what a user can mend is said."""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from invoke.exceptions import Exit
from invoke.tasks import task

from bpfmatrix.cli.options import complain
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.architecture import ARCHITECTURES

__all__ = ["behind_dashes", "bpfmatrix_task", "progress"]

_HELP = {
    "kernel": "An id of kernels.yaml, such as 6.1.",
    "image": "A kernel's file that kernels.yaml does not name: vmlinuz, bzImage, Image, vmlinux.",
    "kernels": 'Ids and patterns of kernels.yaml: 5.10,6.1 or "6.*". Default: matrix.',
    "available": "Also all series that the apt suites of kernels.yaml have now.",
    "refresh": "Fetch the indexes of the sources before.",
    "run": "A regular expression: only the tests that match.",
    "binary": "An executable to run in place of the declared tests; may be given again.",
    "timeout": "The limit of each executable, such as 30s or 2m.",
    "jobs": "Machines at once. Default: one for each core.",
    "warm": "Also boot it once, and save that as the template of later runs.",
    "cold": "Boot the kernel, even if there is a template.",
    "rootfs": "host: tests see the host's files, but can't change them. Or a folder with a root.",
    "share": "A folder of the host's that the tests see, DIR or DIR:rw; may be given again.",
    "net": "user: the guest has QEMU's user network. none, the default: it has no network.",
    "core": "Keep the core file, and the executable, of a test that dies by a signal.",
    "test": "A test executable: its output. Default: the kernel's console.",
    "follow": "Print it as it grows, until the run ends.",
    "json": "Print JSON.",
    "arch": f"{' or '.join(ARCHITECTURES)}. Default: that of defaults in kernels.yaml.",
    "output": "Where to write it. Default: in .bpfmatrix.",
    "files": "Results, or folders with results. Default: the last ones of this project.",
    "format": "table, json, junit, markdown or html. Default: by the name of --output, or table.",
    "text": "What to look for.",
    "all": "Also those in use, and apt's indexes.",
    "version": "A release such as 5.4.276, or a series such as 6.1: the newest release of it.",
    "from_": "kernel.org (the default), apt (Debian's linux-source), or a folder with a tree.",
    "config": "A further fragment of options; may be given again.",
    "debug": "Add debug.config, and keep the debug information in vmlinux.",
    "url": "The address of a server with kernel.org's layout.",
    "keyring": "The keys that may sign kernel.org's checksums.",
    "sha256": "The checksum of the tarball, in place of a signed one.",
    "break_": "A function, or FILE:LINE; may be given again. Default: the verifier's entry.",
    "batch": "Commands for gdb at the first stop, with ; between them; it then ends.",
    "gdb_args": "Further arguments of gdb.",
    "attach_later": "Start no gdb, and print the command for another terminal.",
    "port": "The port for gdb on 127.0.0.1. Default: a free one.",
    "json_port": "As --attach-later, and print port, vmlinux and commands as a line of JSON.",
    "vmlinux": "The kernel's vmlinux with DWARF, where it can't be found or fetched.",
    "source": "The kernel's source tree.",
    "vscode": "Write a launch configuration for Visual Studio Code, and start nothing.",
    "names": "Do with the functions' names: nothing is fetched, and there is no source.",
    "script": "The Python script; modules beside it that it imports come along.",
    "flamegraph": "Where to write a flame graph (SVG).",
    "suite": "Debian's suite. Default: the first one that has the series.",
    "objects": "An eBPF object, or a pattern; the same as a word behind the task.",
    "attach": "Also attach each program that can be attached, and detach it.",
    "max_insns": "Fail a program that takes more of the verifier's limit: 80%, or a number.",
    "limit": "For loading one program, such as 30s.",
    "set": "NAME=VALUE of a constant (const volatile); may be given again.",
    "map_size": "NAME=ENTRIES of a map that is sized at run time; may be given again.",
    "statistics": "Also show each kernel's statistics, where there are several.",
    "annotate": "A program: print its source, with what each line costs the verifier.",
    "save": "Write the results into this file, for --against.",
    "against": "Compare with such a file; exit with 1 only if something got worse.",
    "good": "A kernel on which it works, such as 6.12.",
    "bad": "A kernel on which it does not, such as 5.10.",
    "program": "The eBPF program that loads, or does not.",
    "skipped": "What a kernel says that skips the tests: good, bad, or unknown (the default).",
    "threshold": "By how much a program may grow against that. Default: 10%.",
}


def bpfmatrix_task(
    help: Mapping[str, str] | None = None, **more: Any
) -> Callable[[Callable[..., None]], Any]:
    """Make an invoke task, which says what a user can mend in one or two sentences.

    `help` is of options that mean something else in this task than in the others.
    """
    texts = {**_HELP, **(help or {})}

    def decorate(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def reported(*arguments: Any, **options: Any) -> None:
            try:
                function(*arguments, **options)
                sys.stdout.flush()
            except BpfmatrixError as error:
                complain(error)
                raise Exit(code=error.exit_status) from None
            except KeyboardInterrupt:
                raise Exit(code=130) from None
            except BrokenPipeError:
                # Who reads this has enough, as `head` has. What is left in the buffer goes nowhere.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise Exit(code=141) from None

        names = list(inspect.signature(function).parameters)[1:]
        return task(reported, help={name: texts[name] for name in names}, **more)

    return decorate


def behind_dashes() -> tuple[str, ...]:
    # invoke keeps these words too, but joined to one string.
    words = sys.argv[1:]
    return tuple(words[words.index("--") + 1 :]) if "--" in words else ()


def progress(text: str, fraction: float | None = None) -> None:
    # For tasks without a table of what goes on: each thing that is done, once.
    if _said[-1:] != [text]:
        _said.append(text)
        print(text, file=sys.stderr, flush=True)


_said: list[str] = []
