"""The stop where the verifier says why it rejects a program, or rejects it without a word."""

import contextlib
import errno
import os

import gdb
from bpfmatrix_in_gdb import loads, machine, messages, verifier

# The functions that write a part of a message: their first arguments are the verifier's state, or
# its log, and a format. Kernels have the first one from 5.4 on, and more of them later.
_WRITERS = ("verbose", "bpf_verifier_log_write", "bpf_log")


class _Message(gdb.Breakpoint):
    """A breakpoint where the verifier writes a part of a message."""

    def stop(self):
        load = loads.current()
        # Messages about other things than programs, such as BTF, are of no load.
        if load is None or not load.is_asked:
            return False
        load.env = load.env or _env(machine.argument(0))
        if verifier.is_guess(load.env):
            return False
        format = machine.string(machine.argument(1))
        numbers = iter(range(2, 100))
        reason = load.lines.add(
            format,
            lambda: verifier.formatted(format, lambda: machine.argument(next(numbers))),
        )
        if not reason:
            return False
        if _is_overlooked():
            load.overlooked.append(reason)
            return False
        if reason.startswith("Caller passes invalid args"):
            load.reasons += load.overlooked[-1:]
        load.reasons.append(reason)
        load.reported = True
        _Stop.of(load, f"the verifier rejects {load.name}: {reason}")
        return True


def _env(address):
    """Return the address of the verifier's state from that of the state or of its log."""
    with contextlib.suppress(gdb.error):
        kind = gdb.lookup_type("struct bpf_verifier_env")
        if machine.argument(0) and _function().startswith("bpf_log"):
            offset = next(each for each in kind.fields() if each.name == "log").bitpos // 8
            return address - offset
    return address


def _function():
    return gdb.newest_frame().name() or ""


def _is_overlooked():
    """Whether the verifier goes on after this message, which is about types in BTF.

    That is so for the arguments of the program's entry, and for those of its functions: if they
    matter, another message follows (check_func_call of kernel/bpf/verifier.c).
    """
    if not _function().startswith("bpf_log"):
        return False
    frame, names = gdb.newest_frame().older(), []
    while frame is not None and len(names) < 6:
        names.append((frame.name() or "").partition(".")[0])
        if names[-1] == "btf_prepare_func_args":
            with contextlib.suppress(gdb.error, ValueError):
                if int(frame.read_var("subprog")) == 0:
                    return True
        frame = frame.older()
    if "btf_check_kfunc_arg_match" in names:
        return False
    return any(name.startswith(("btf_check_subprog", "btf_check_func_arg")) for name in names)


class _Ends(loads.Follower):
    """Stops where the kernel returns an error about which the verifier has said nothing."""

    def end(self, load, error):
        # Libraries try again after EAGAIN: a signal has interrupted the verifier.
        if error >= 0 or error == -errno.EAGAIN or load.reported or not load.is_asked:
            return False
        said = "" if load.lines.trace else " ".join(load.lines.text.split())
        said = said or next(iter(load.overlooked[-1:]), "")
        words = f"{said} ({_name_of(error)})" if said else f"{_name_of(error)}, without a message"
        _Stop.of(load, f"the verifier has rejected {load.name}: {words}", is_over=True)
        return True

    def refuse(self, load, error):
        if not load.is_asked:
            return False
        words = f"the kernel refuses {load.name} before the verifier begins: {_name_of(error)}"
        _Stop.of(load, words, is_over=True)
        return True


def _name_of(error):
    return f"{errno.errorcode.get(-error, error)}, {os.strerror(-error)}"


class _Stop:
    """What to say at the stop."""

    load = None
    words = ""
    is_over = False
    """Whether the verifier's data is gone, or was never there."""

    @classmethod
    def of(cls, load, words, is_over=False):
        cls.load, cls.words, cls.is_over = load, words, is_over


def break_at_rejection(function="verbose"):
    """Stop where the verifier says why it rejects a program, and where it says nothing."""
    for name in dict.fromkeys((function, *_WRITERS)):
        with contextlib.suppress(gdb.error):
            # The arguments are in their registers at the first instruction.
            place = _Message(f"*{machine.first_instruction(name):#x}")
            place.commands = "python rejection.say_rejection()"
    loads.follow(_Ends(), "python rejection.say_rejection()")


def _select_caller():
    """Select the frame of the function that rejects the program, and say where that is."""
    frame = gdb.newest_frame().older()
    if frame is not None and frame.name():
        frame.select()
        # Then `list` shows that place.
        gdb.execute("frame", to_string=True)
        place = frame.find_sal()
        if place.symtab is not None:
            print(f"  in {frame.name()}, {place.symtab.filename}:{place.line}")


def _show_where(reason):
    """Show the instruction that is rejected, and what is known there."""
    if verifier.verifier_env()["cur_state"]:
        gdb.execute("bpf-insn")
        gdb.execute("bpf-regs")
        print("`bt` shows what it was checking; `bpf-path` and `bpf-why REG` how it came there")
        return
    print("the verifier follows no path at this moment, so there are no registers to show")
    if (number := messages.instruction_of(reason)) is not None:
        gdb.execute(f"bpf-insn {number}")


def say_rejection():
    """Print the message, the instruction with its line of C, and the registers."""
    load = _Stop.load
    if load is None:
        return
    if _Stop.is_over:
        gdb.execute("frame")
    print(_Stop.words)
    if not _Stop.is_over:
        _select_caller()
    for reason in load.reasons[:-1]:
        print(f"  before that, it said: {reason}")
    # The verifier's data is freed at its end, and can't be read without DWARF.
    if not _Stop.is_over:
        with contextlib.suppress(gdb.error):
            _show_where(load.reasons[-1] if load.reasons else "")
    _Stop.load = None
