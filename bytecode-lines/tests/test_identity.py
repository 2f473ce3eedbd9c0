from __future__ import annotations

import json
import subprocess
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytecode_lines import Code
from bytecode_lines.identity import HASHED_BYTES, Identity, table_hash

PROGRAM = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    static uint8_t table[1 << 16];
    uint32_t length;
    while (fread(&length, 4, 1, stdin) == 1 && fread(table, 1, length, stdin) == length) {
        uint8_t bytes[68] = {0};
        memcpy(bytes, &length, 4);
        memcpy(bytes + 4, table, length < 64 ? length : 64);
        uint64_t hash = 0xcbf29ce484222325;
        for (int i = 0; i < 68; i++)
            hash = (hash ^ bytes[i]) * 0x100000001b3;
        printf("%016llx\\n", (unsigned long long)hash);
    }
}
"""


def test_hash_is_what_the_c_of_the_docstring_computes(tmp_path: Path) -> None:
    (tmp_path / "hash.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-o", tmp_path / "hash", tmp_path / "hash.c"], check=True)
    tables = [b"", b"\0", b"\1\2", bytes(range(63)), bytes(range(64)), bytes(range(65)), b"x" * 999]
    given = b"".join(len(table).to_bytes(4, "little") + table for table in tables)
    done = subprocess.run([tmp_path / "hash"], input=given, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().split() == [f"{table_hash(table):016x}" for table in tables]


def test_hash_is_fnv_1a() -> None:
    # Computed by its definition, as no published test vector has 68 bytes.
    value = 14695981039346656037
    for byte in b"\3\0\0\0abc" + b"\0" * 61:
        value = (value ^ byte) * 1099511628211 % 2**64
    assert table_hash(b"abc") == value


def test_length_and_zeros_tell_tables_apart() -> None:
    tables = [b"", b"\0", b"\0\0", b"a" * 64, b"a" * 65, b"a" * 64 + b"b" * 2]
    assert len({table_hash(table) for table in tables}) == len(tables)


def test_bytes_after_the_hashed_ones_do_not_count() -> None:
    assert table_hash(b"a" * HASHED_BYTES + b"b") == table_hash(b"a" * HASHED_BYTES + b"c")


def test_types_coroutine_leaves_the_identity_as_it_was() -> None:
    def plain() -> object:
        yield

    before = plain.__code__
    after = types.coroutine(plain).__code__
    assert before.co_flags != after.co_flags
    assert Code.of(before).identity == Code.of(after).identity


NUMBER = st.integers(0, 2**31 - 1)


@given(NUMBER, NUMBER, NUMBER, NUMBER, st.binary(max_size=80))
def test_text_can_be_read_back(
    line: int, arguments: int, keyword_only: int, flags: int, table: bytes
) -> None:
    identity = Identity.of(line, arguments, keyword_only, flags, table)
    assert Identity.parse(str(identity)) == identity
    assert json.loads(json.dumps(str(identity))) == str(identity)


@pytest.mark.parametrize("text", ["", "1:2:3:4", "1:2:3:4:5", "a:0:0:0:0123456789abcdef", "1" * 30])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"identity|invalid literal"):
        Identity.parse(text)
