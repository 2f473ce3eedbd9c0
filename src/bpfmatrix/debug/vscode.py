"""A launch configuration for Visual Studio Code, whose C/C++ extension drives gdb.

The keys are those of that extension's `cppdbg` debugger. It connects to the machine of
`invoke debug --attach-later --port PORT`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bpfmatrix.debug.gdb import Gdb
from bpfmatrix.errors import UsageError

__all__ = ["PORT", "configuration", "write"]

PORT = 4711
"""Where none is named: a launch configuration can't hold one that is only free today."""


def configuration(id: str, gdb: Gdb, port: int, breakpoints: Sequence[str]) -> dict[str, Any]:
    """Return the launch configuration for one kernel."""
    return {
        "name": f"bpfmatrix: {id}",
        "type": "cppdbg",
        "request": "launch",
        "MIMode": "gdb",
        "miDebuggerPath": str(gdb.program),
        "miDebuggerServerAddress": f"127.0.0.1:{port}",
        "program": str(gdb.symbols.vmlinux),
        "cwd": "${workspaceFolder}",
        "setupCommands": [{"text": line} for line in gdb.setup_commands()],
        # Once connected; the guest then stands before its first instruction.
        "postRemoteConnectCommands": [{"text": f"break {name}"} for name in breakpoints],
    }


def write(root: Path, wanted: dict[str, Any]) -> Path:
    """Put a configuration into `.vscode/launch.json`, in place of one of its name.

    UsageError where what is there can't be read, as one with comments can't.
    """
    path = root / ".vscode/launch.json"
    data: dict[str, Any] = {"version": "0.2.0", "configurations": []}
    if path.exists():
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            others = [c for c in data["configurations"] if c.get("name") != wanted["name"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{path} can't be added to: {error}",
                "Its comments, which JSON has not, may be why. Move it away, and take over from "
                "the new one what you need.",
            ) from error
        data["configurations"] = others
    data["configurations"].append(wanted)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    return path
