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
"""The default port: in a launch configuration, it has to be the same each time."""


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
        # gdb has connected then, and the guest is held before its first instruction.
        "postRemoteConnectCommands": [{"text": gdb.break_command(name)} for name in breakpoints],
    }


def write(root: Path, configuration: dict[str, Any]) -> Path:
    """Add a configuration to `.vscode/launch.json`, or replace the one with its name.

    Return the path of the file. UsageError if it can't be read, for example if it has comments.
    """
    path = root / ".vscode/launch.json"
    data: dict[str, Any] = {"version": "0.2.0", "configurations": []}
    if path.exists():
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            others = [c for c in data["configurations"] if c.get("name") != configuration["name"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{path} can't be added to: {error}",
                "JSON has no comments: remove them, or move the file away, and copy what you need "
                "into the new one.",
            ) from error
        data["configurations"] = others
    data["configurations"].append(configuration)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    return path
