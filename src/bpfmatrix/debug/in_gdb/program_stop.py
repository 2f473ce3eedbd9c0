"""The stop where the verifier comes to an instruction of a program, or to a line of its source.

The verifier visits up to a million instructions, and a breakpoint that gdb decides about takes a
millisecond each time. So gdb watches the memory of the instruction instead: what reads it is the
verifier when it comes there, and few others.
"""

import contextlib

import gdb
from bpfmatrix_in_gdb import insn, loads, machine, verifier


def break_at(instruction, program="", file="", line=0):
    """Stop at an instruction by its number, or at a line of a source file.

    `program` is the name of the only program to stop at; without it, each program that the
    session is about is one. `file` is the end of a path, in whole parts.
    """
    address = machine.first_instruction("bpf_check")
    loads.follow(_PlaceFollower(_Anchor(f"*{address:#x}"), instruction, program, file, line))


class _Anchor(gdb.Breakpoint):
    """What `info breakpoints` and `delete` know of a place in programs."""

    def stop(self):
        return False


class _PlaceFollower(loads.Follower):
    """Watches the instructions of the programs at which gdb is to stop."""

    def __init__(self, anchor, instruction, program, file, line):
        self.anchor = anchor
        self._instruction = instruction
        # As a loader passes it to the kernel.
        self._program = program[:15]
        self._file = file
        self._line = line
        self._found_line = None
        self._told = set()
        """The sentences that were printed: loaders load a program more than once."""
        self._watches = {}
        """The watched instructions of each load, by its stack."""

    def __str__(self):
        return f"{self._file}:{self._line}"

    def begin(self, load):
        if not load.is_asked or (self._program and load.name != self._program):
            return
        kind = gdb.lookup_type("struct bpf_prog").pointer()
        program = gdb.Value(machine.word(machine.argument(0))).cast(kind)
        watches = self._watches.setdefault(load.stack, {})
        # The lines are not known yet. They are when the first instruction is read again.
        first = 0 if self._instruction is None else self._instruction
        if why := _why_never(program, first):
            self._tell(f"gdb can't stop at instruction {first} of {load.name}: {why}")
        else:
            watches[first] = _Watch(self, load, program, first)

    def _tell(self, sentence):
        if sentence not in self._told:
            self._told.add(sentence)
            print(sentence, flush=True)

    def end(self, load, error):
        for watch in self._watches.pop(load.stack, {}).values():
            watch.delete()
        return False

    def numbers(self, program):
        """Return the numbers of the instructions to stop at; None if they are not known yet."""
        if self._instruction is not None:
            return {self._instruction}
        if not int(program["aux"]["nr_linfo"]) or not program["aux"]["btf"]:
            return None
        lines = verifier.lines(program["aux"])
        ending = f"/{self._file}"
        ours = [one for one in lines if f"/{one.file}".endswith(ending)]
        # As in C, a line without an instruction means the next one that has some.
        line = min((one.line for one in ours if one.line >= self._line), default=None)
        here = [one for one in ours if one.line == line]
        self._found_line = (here[0].file, line) if here else None
        return {one.instruction for one in here}

    def is_same_line(self, program, number):
        """Whether an instruction is of the line that gdb stops at; False if it is at a number."""
        if self._instruction is not None:
            return False
        return verifier.line_of(program["aux"], number) == self._found_line

    def watch(self, load, program, numbers):
        """Watch these instructions, too."""
        watches = self._watches[load.stack]
        for number in sorted(numbers - watches.keys()):
            watches[number] = _Watch(self, load, program, number)


def _why_never(program, number):
    """Return why the verifier never comes to an instruction; an empty text if it may."""
    length = int(program["len"])
    if number >= length:
        return f"it has the instructions 0 to {length - 1}"
    if number and int(program["insnsi"][number - 1]["code"]) == insn.WIDE:
        return f"that is the second half of instruction {number - 1}"
    return ""


class _Watch(gdb.Breakpoint):
    """A watchpoint on an instruction: it is reached when the guest has read it."""

    shown = None
    """The number of the instruction at which gdb stopped last."""

    def __init__(self, place, load, program, number):
        address = int(program["insnsi"].address) + number * program["insnsi"].type.target().sizeof
        expression = f"*(unsigned char *){address:#x}"
        super().__init__(expression, gdb.BP_WATCHPOINT, gdb.WP_READ, internal=True)
        self.silent = True
        self.commands = "python program_stop.say()"
        self._place = place
        self._load = load
        self._program = program
        self._number = number
        self._numbers = None
        self._visit = None

    def stop(self):
        place = self._place
        if loads.current() is not self._load:
            return False
        if not place.anchor.is_valid() or not place.anchor.enabled:
            # A loop reads the instruction thousands of times, and each stop takes a while.
            self.enabled = False
            return False
        if self._numbers is None:
            self._numbers = place.numbers(self._program)
            if self._numbers == set():
                print(f"{self._load.name} has no instruction of {place}, and none behind it")
            if self._numbers is not None:
                place.watch(self._load, self._program, self._numbers)
        if self._numbers is None:
            return False
        if self._number not in self._numbers:
            self.enabled = False
            return False
        with contextlib.suppress(gdb.error, gdb.GdbError):
            return self._is_visit(verifier.verifier_env())
        return False

    def _is_visit(self, env):
        """Whether the verifier has come to the instruction just now.

        It reads the instruction when it prepares the program, too, several times in each visit,
        and when it goes back over the path. It counts the visits right behind the first read.
        """
        if not env["cur_state"] or int(env["insn_idx"]) != self._number:
            return False
        count = int(env["insn_processed"])
        if self._visit is not None and count <= self._visit + 1:
            return False
        self._visit = count
        # A line of C has several entries. The verifier comes to it once if they follow each other.
        before = int(env["prev_insn_idx"])
        if before == self._number - 1 and self._place.is_same_line(self._program, before):
            return False
        _Watch.shown = self._number
        self._load.env = int(env.address)
        return True


def say():
    """Show the instruction, its line of C and the registers, if gdb has stopped there just now."""
    if _Watch.shown is None:
        return
    _Watch.shown = None
    gdb.execute("frame", to_string=True)
    print("the verifier comes to this instruction:")
    gdb.execute("bpf-insn")
    gdb.execute("bpf-regs")
