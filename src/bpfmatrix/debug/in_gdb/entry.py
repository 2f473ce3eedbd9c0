"""The stops at functions: the default one, where the verifier begins to check, and given ones."""

import contextlib
import json

import gdb
from bpfmatrix_in_gdb import beginnings, loads, verifier

FUNCTIONS = ("do_check", "do_check_common", "bpf_check")
"""The verifier begins in the first of these functions that a kernel has.

Compilers inline `do_check`, a static function with one caller: into `bpf_check` before 5.6, and
into `do_check_common` since. Without DWARF, its name is then lost."""


def functions():
    """Return those of FUNCTIONS that the kernel has."""
    return [name for name in FUNCTIONS if _exists(name)]


def _exists(name):
    try:
        return bool(beginnings.of(name))
    except gdb.error:
        return False


def break_at(name):
    """Stop where a function begins, in each of its copies, or at a location such as FILE:LINE."""
    if name in FUNCTIONS:
        with contextlib.suppress(gdb.error):  # the verifier's state is then that of a variable
            loads.follow(loads.Follower())
    # If the session is about some programs, another one may only be a loader's probe.
    is_meant = loads.is_of_no_other if loads.are_named() else None
    for beginning in beginnings.of(name):
        if beginning.addresses or is_meant:
            _BeginningStop(beginning, is_meant)
        else:
            gdb.execute(f"break {beginning.location}")


def break_at_entry():
    """Stop where the verifier begins to check a program that no library loads as a probe."""
    is_meant = _condition()
    for beginning in beginnings.of(functions()[0]):
        _BeginningStop(beginning, is_meant)


def select_frame(name):
    """Select and show the innermost frame of a function."""
    frame = gdb.newest_frame()
    while frame is not None and frame.name() != name:
        frame = frame.older()
    if frame is not None:
        frame.select()
        gdb.execute("frame")


def _condition():
    """Return the function that says whether to stop for the program that the verifier checks.

    The name is that which the system call was given, which the registers say where `bpf_check`
    begins. If the compiler has inlined that function, it is that in the verifier's state, if DWARF
    says where that is.
    """
    try:
        loads.follow(loads.Follower())
    except gdb.error:
        return _has_name_in_state
    return _is_asked


def _is_asked():
    load = loads.current()
    return load.is_asked if load is not None else _has_name_in_state()


def _has_name_in_state():
    """Return whether the program has a name; an error of gdb if the state is not found."""
    return bool(verifier.verifier_env()["prog"]["aux"]["name"].string(errors="replace"))


class _BeginningStop(gdb.Breakpoint):
    """A breakpoint where a function begins; with `is_meant`, only for programs that are meant."""

    def __init__(self, beginning, is_meant=None):
        super().__init__(beginning.location)
        self._addresses, self._is_meant = beginning.addresses, is_meant
        if beginning.shown:
            self.commands = f"python entry.select_frame({json.dumps(beginning.shown)})"

    def stop(self):
        """See gdb.Breakpoint."""
        # The line of a call has more code than the beginning of the copy that was inlined there.
        if self._addresses and gdb.newest_frame().pc() not in self._addresses:
            return False
        if self._is_meant is None:
            return True
        try:
            return self._is_meant()
        except (gdb.error, gdb.GdbError):
            # It is better to stop too often than never.
            return True
