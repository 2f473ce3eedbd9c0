"""Where a function begins: as a function of its own, and in each copy that was inlined.

gdb 13 puts a breakpoint at an inlined function on the lowest address of its code, which may be in
the middle of it, or in a branch for errors.
"""

from dataclasses import dataclass

import gdb


@dataclass(frozen=True)
class Beginning:
    """The beginning of a function, or of an inlined copy of it."""

    location: str
    """As gdb's command `break` takes it: a name, FILE:LINE, or *ADDRESS."""
    addresses: frozenset = frozenset()
    """The addresses at which the function begins; empty for all those of `location`."""
    shown: str = ""
    """The function, if gdb would show another one, which is inlined and begins there too."""


def of(name):
    """Return where a function begins; gdb.error if there is none.

    A location that is no function, such as FILE:LINE, is its own beginning.
    """
    found = gdb.decode_line(name)[1] or ()
    copies, functions = [], []
    for each in found:
        chain = functions_at(each.pc) if each.symtab is not None else []
        depth = next((i for i, block in enumerate(chain) if block.function.name == name), None)
        if depth is None:
            return [Beginning(name)]
        if depth < len(chain) - 1:
            copies.append((each, chain[depth:]))
        else:
            functions.append(each)
    if not copies:
        return [Beginning(name)]
    # A part of a function that was inlined otherwise, such as do_check.part.0, is called by a copy.
    functions = [each for each in functions if not _is_part(each.pc)]
    beginnings = [_beginning_of_copy(each, chain) for each, chain in copies]
    beginnings += [Beginning(f"*{each.pc:#x}") for each in functions]
    return list(dict.fromkeys(beginnings))


def _beginning_of_copy(found, chain):
    """Return where an inlined copy begins; `chain` is its block and those around it.

    gcc, from release 8 on, gives the first instruction of a copy the line of the call, besides the
    lines of its body. clang does not, but puts the blocks of code behind those that come to them,
    so that the lowest address is the first one. Neither is so for other compilers, unless the copy
    is in one piece: then it is the function that has the copy.
    """
    copy, table = chain[0], found.symtab.linetable()
    line = copy.function.line  # of the call: DW_AT_call_line
    at_call = {entry.pc for entry in table.line(line) or () if _is_within(entry.pc, copy)}
    if at_call:
        location = f"{found.symtab.filename}:{line}"
        if at_call & {each.pc for each in gdb.decode_line(location)[1] or ()}:
            inner = any(not _same(functions_at(each)[0], copy) for each in at_call)
            return Beginning(location, frozenset(at_call), copy.function.name if inner else "")
        return Beginning(f"*{min(at_call):#x}")
    if "clang" in (found.symtab.producer or "") or _in_one_piece(copy, table):
        return Beginning(f"*{copy.start:#x}")
    return Beginning(chain[-1].function.name)


def functions_at(address):
    """Return the blocks of the functions that have an address, from the innermost outwards."""
    block, found = gdb.block_for_pc(address), []
    while block is not None:
        if block.function is not None:
            found.append(block)
        block = block.superblock
    return found


def _is_within(address, block):
    return any(_same(each, block) for each in functions_at(address))


def _same(one, other):
    # gdb 13 has no equality of blocks. Copies of a function do not overlap.
    return (one.start, one.end, one.function.name) == (other.start, other.end, other.function.name)


def _in_one_piece(copy, table):
    within = (entry.pc for entry in table if copy.start <= entry.pc < copy.end)
    return all(_is_within(address, copy) for address in within)


def _is_part(address):
    return ".part." in gdb.execute(f"info symbol {address:#x}", to_string=True).partition(" ")[0]
