"""The file that gdb sources: it loads this package, whose names gdb's `python` command then has.

The package is loaded by its path: the folder around it has modules with the names of modules of
gdb's Python, so it can't be on `sys.path`.
"""

import importlib.util
import sys
from pathlib import Path

_NAME = "bpfmatrix_in_gdb"
_folder = Path(__file__).parent
_spec = importlib.util.spec_from_file_location(
    _NAME, _folder / "__init__.py", submodule_search_locations=[str(_folder)]
)
sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[_NAME])

from bpfmatrix_in_gdb import (  # noqa: E402
    commands,  # noqa: F401
    core_file,  # noqa: F401
    dump,  # noqa: F401
    entry,  # noqa: F401
    kernel_scripts,  # noqa: F401
    loads,  # noqa: F401
    locations,  # noqa: F401
    program_stop,  # noqa: F401
    rejection,  # noqa: F401
    session,  # noqa: F401
    stops,  # noqa: F401
)
