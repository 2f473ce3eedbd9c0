"""`python -m benchmarks.against_libbpf FOLDER... --kernels 6.1,6.12,7.3`; see README.md."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from benchmarks.against_libbpf.comparison import Class, Compared, compare
from benchmarks.against_libbpf.sides import (
    REPOSITORY,
    Folder,
    build_reference,
    objects_in,
    reference,
    verified,
)
from bpfmatrix.host.cache import Cache

_BAD = (Class.ONLY_LIBBPF, Class.ONLY_VERIFY)
_SHOWN = (*_BAD, Class.OTHER_REASON, Class.UNKNOWN)


def main() -> None:
    """Compare, print the counts and the differences; exit with 1 if a verdict differs untold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against_libbpf")
    parser.add_argument("objects", nargs="+", type=Path, metavar="FOLDER", help="or object files")
    parser.add_argument("--kernels", default="6.1,6.12,7.3", help="of our own kernels.yaml")
    parser.add_argument(
        "--folder", type=Path, default=REPOSITORY / ".bpfmatrix/against-libbpf", help="for results"
    )
    parser.add_argument(
        "--keep-verify", action="store_true", help="compare with the last results of verify"
    )
    words = parser.parse_args()
    kernels = words.kernels.split(",")
    folder = Folder(words.folder.absolute())
    folder.prepare(kernels)
    paths = [path.absolute() for path in words.objects]
    objects = objects_in(paths)
    program = build_reference(Cache.default(), folder.root)
    counts: dict[str, Counter[Class]] = {}
    for kernel in kernels:
        theirs = reference(folder, kernel, objects, program)
        ours = verified(folder, kernel, paths, again=not words.keep_verify)
        found = compare(theirs, ours)
        print_differences(f"{kernel} ({ours['release']})", found)
        counts[kernel] = Counter(one.kind for one in found)
        for object in objects:
            if str(object) not in theirs:
                print(f"{kernel}: no answer of libbpf for {object}")
    print_counts(counts)
    sys.exit(any(count[kind] for count in counts.values() for kind in _BAD))


def print_differences(kernel: str, found: list[Compared]) -> None:
    """Print the programs about which the two do not agree."""
    for kind in _SHOWN:
        those = [one for one in found if one.kind is kind]
        if those:
            print(f"\n{kernel}: {len(those)} programs: {kind}")
        for one in those:
            print(f"  {one.line}")


def print_counts(counts: dict[str, Counter[Class]]) -> None:
    """Print a table: a row for each class, a column for each kernel."""
    width = max(map(len, Class))
    print("\n" + " " * width, *(f"{kernel:>8}" for kernel in counts))
    for kind in Class:
        print(f"{kind:{width}}", *(f"{count[kind]:8,}" for count in counts.values()))
    refused = [
        (count[Class.SAME_REASON], count[Class.SAME_REASON] + count[Class.OTHER_REASON])
        for count in counts.values()
    ]
    shares = (f"{same / both:8.1%}" if both else f"{'-':>8}" for same, both in refused)
    print(f"{'same reason, of those that both refuse':{width}}", *shares)


if __name__ == "__main__":
    main()
