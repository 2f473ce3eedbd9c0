"""The stops at functions: the default one, where the verifier begins to check, and given ones."""

import json

import gdb
from bpfmatrix_in_gdb import loads, machine, places, verifier

FUNCTIONS = ("do_check", "do_check_common", "bpf_check")
"""The verifier begins in the first of these functions that a kernel has.

Compilers inline `do_check`, a static function with one caller: into `bpf_check` before 5.6, and
into `do_check_common` since. Without DWARF, its name is then lost."""


def functions():
    """Return those of FUNCTIONS that the kernel has."""
    return [name for name in FUNCTIONS if _exists(name)]


def _exists(name):
    try:
        return bool(places.beginnings(name))
    except gdb.error:
        return False


def break_at(name):
    """Stop where a function begins, in each of its copies, or at a location such as FILE:LINE."""
    for place in places.beginnings(name):
        if place.addresses:
            _Beginning(place)
        else:
            gdb.execute(f"break {place.location}")


def break_at_entry():
    """Stop where the verifier begins to check a program that has a name.

    The programs that libraries load to probe the kernel's features have none.
    """
    name_of = _way_to_name()
    for place in places.beginnings(functions()[0]):
        _Beginning(place, name_of)


def select_frame(name):
    """Select and show the innermost frame of a function."""
    frame = gdb.newest_frame()
    while frame is not None and frame.name() != name:
        frame = frame.older()
    if frame is not None:
        frame.select()
        gdb.execute("frame")


def _way_to_name():
    """Return the function that says which name the program has that the verifier checks.

    The system call was given it, which the registers say where `bpf_check` begins. If the compiler
    has inlined that function, it is in the verifier's state, if DWARF says where that is.
    """
    try:
        loads.follow(loads.Follower())
    except gdb.error:
        return _name_in_state
    return _name_in_load


def _name_in_load():
    load = loads.current()
    return load.name if load is not None else _name_in_state()


def _name_in_state():
    """Return the program's name; gdb.error if the verifier's state is not found."""
    return verifier.verifier_env()["prog"]["aux"]["name"].string(errors="replace")


class _Beginning(gdb.Breakpoint):
    """A breakpoint at a place; with `name_of`, only for programs with a name."""

    def __init__(self, place, name_of=None):
        super().__init__(place.location)
        self._addresses, self._name_of = place.addresses, name_of
        if place.shown:
            self.commands = f"python entry.select_frame({json.dumps(place.shown)})"

    def stop(self):
        """See gdb.Breakpoint."""
        # The line of a call has more code than the beginning of the copy that was inlined there.
        if self._addresses and machine.program_counter() not in self._addresses:
            return False
        if self._name_of is None:
            return True
        try:
            return bool(self._name_of())
        except (gdb.error, gdb.GdbError):
            # It is better to stop too often than never.
            return True
