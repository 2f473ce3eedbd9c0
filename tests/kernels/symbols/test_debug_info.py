import dataclasses
import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.debug.gdb import ENTRY, Gdb
from bpfmatrix.errors import KernelUnavailableError, UsageError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.kernels import symbols
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.symbols import Symbols, elf

# Compiled into its only caller, and not at the begin of it: as gcc does it with do_check.
SOURCE = """\
static int total;
__attribute__((noinline)) void note(int x) { total += x; }
static inline __attribute__((always_inline)) int do_check(int *env)
{
	int count = *env;

	note(count);
	return count + total;
}
__attribute__((noinline)) int do_check_common(int *env)
{
	note(1);
	return do_check(env);
}
void _start(void)
{
	int env = 3;

	do_check_common(&env);
}
"""


@dataclasses.dataclass
class BuiltProject:
    """A kernel as `kernels.build` leaves it, but for what is in it."""

    root: Path
    image: KernelImage
    tree: Path
    objects: Path


def compiled(source: Path, target: Path) -> None:
    command: list[str | Path] = ["gcc", "-g", "-O2", "-nostdlib", "-static", "-Wl,--build-id"]
    subprocess.run([*command, "-o", target, source], check=True)


@pytest.fixture
def built(tmp_path: Path) -> BuiltProject:
    root = tmp_path / "project"
    folder, build = root / "ci-kernels/6.1", root / "ci-kernels/_build"
    tree, objects = build / "linux-6.1.192", build / "objects-6.1.192-x86_64"
    for path in (folder, tree / "kernel/bpf", objects):
        path.mkdir(parents=True)
    (tree / "kernel/bpf/verifier.c").write_text(SOURCE)
    compiled(tree / "kernel/bpf/verifier.c", objects / "vmlinux")
    # Without --debug, what is installed has no lines; what boots has no symbols at all.
    subprocess.run(
        ["objcopy", "--strip-debug", objects / "vmlinux", folder / "vmlinux"], check=True
    )
    boot = tmp_path / "store/vmlinux"
    boot.parent.mkdir()
    subprocess.run(["strip", "-o", boot, objects / "vmlinux"], check=True)
    (folder / "vmlinuz").write_bytes(b"packed")
    about = {
        "sha256": {"vmlinuz": sha256_of(folder / "vmlinuz")},
        "tree": str(tree),
        "objects": str(objects),
        "source": "a test",
    }
    (folder / "build.json").write_text(json.dumps(about))
    image = KernelImage(
        arch="x86_64",
        release="6.1.192",
        version="6.1.192",
        digest=f"sha256:{sha256_of(folder / 'vmlinuz')}",
        boot=boot,
        pvh=True,
        vmlinuz=boot.with_name("vmlinuz"),
        modules=None,
        provenance=Provenance("built from a test", ()),
    )
    return BuiltProject(root, image, tree, objects)


def kernel(source: dict[str, object]) -> KernelConfig:
    return Config.model_validate({"kernels": {"6.1": {"source": source}}}).kernel("6.1")


def test_a_kernel_that_was_built(built: BuiltProject, cache: Cache) -> None:
    found = symbols.at_hand(built.root, built.image, cache)
    assert found == Symbols(
        built.objects / "vmlinux", built.tree, origin="built from a test", scripts=None
    )
    (built.objects / "vmlinux-gdb.py").touch()
    found = symbols.at_hand(built.root, built.image, cache)
    assert found is not None
    assert found.scripts == built.objects / "vmlinux-gdb.py"
    # BuiltProject again since: neither its digest nor its build id is that of what boots.
    other = dataclasses.replace(built.image, digest="sha256:0")
    assert symbols.at_hand(built.root, other, cache) is None
    source = built.tree / "kernel/bpf/verifier.c"
    source.write_text(SOURCE.replace("env = 3", "env = 4"))
    compiled(source, built.objects / "vmlinux")
    assert symbols.at_hand(built.root, built.image, cache) is None


def test_a_project_that_was_moved(built: BuiltProject, cache: Cache, tmp_path: Path) -> None:
    there = tmp_path / "moved"
    built.root.rename(there)
    found = symbols.at_hand(there, built.image, cache)
    assert found is not None
    tree = there / built.tree.relative_to(built.root)
    assert (found.source, found.moved_from) == (tree, str(built.tree))
    gdb = Gdb.find("x86_64", found, cache, there / "debug")
    before = gdb.setup_commands()
    said = subprocess.run(
        [
            "gdb",
            "-nx",
            "-batch",
            *(word for line in (*before, "list note") for word in ("-ex", line)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "void note(int x) { total += x; }" in said.stdout


def test_where_a_function_begins_that_is_part_of_another(built: BuiltProject, cache: Cache) -> None:
    found = symbols.at_hand(built.root, built.image, cache)
    assert found is not None
    gdb = Gdb.find("x86_64", found, cache, built.root / "debug")
    line = SOURCE.splitlines().index("	return do_check(env);") + 1
    for names, said in ((["do_check"], ("do_check",)), ([], (ENTRY,))):
        assert gdb.resolve(names) == said
        commands = [*gdb.setup_commands(), *map(gdb.break_command, said)]
        shown = subprocess.run(
            ["gdb", "-nx", "-batch", *(word for each in commands for word in ("-ex", each))],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"file {built.tree}/kernel/bpf/verifier.c, line {line}.\n" in shown.stdout
    assert gdb.resolve(["note", f"verifier.c:{line}"]) == ("note", f"verifier.c:{line}")
    with pytest.raises(
        UsageError, match='--break do_chek: Function "do_chek" not defined'
    ) as error:
        gdb.resolve(["note", "do_chek"])
    assert error.value.advice == "This kernel has do_check, do_check_common."
    with pytest.raises(UsageError, match="No source file named verifer") as error:
        gdb.resolve(["verifer.c:3"])
    assert "kernel/bpf/verifier.c:12345" in error.value.advice


def test_what_a_user_names(built: BuiltProject, cache: Cache, tmp_path: Path) -> None:
    mine = tmp_path / "vmlinux"
    mine.write_bytes((built.objects / "vmlinux").read_bytes())
    elsewhere = kernel({"oci": "example/6.1"})
    found = symbols.get(tmp_path, elsewhere, built.image, cache, vmlinux=mine, source=built.tree)
    assert (found.vmlinux, found.source) == (mine, built.tree)
    with pytest.raises(UsageError, match="there is no kernel/bpf in it"):
        symbols.get(tmp_path, elsewhere, built.image, cache, vmlinux=mine, source=tmp_path)
    with pytest.raises(UsageError, match="can't be read: No such file"):
        symbols.get(tmp_path, elsewhere, built.image, cache, vmlinux=tmp_path / "gone")
    compiled(built.tree / "kernel/bpf/verifier.c", tmp_path / "same")
    assert elf.build_id(tmp_path / "same") == elf.build_id(mine)
    (tmp_path / "other.c").write_text("void _start(void) {}")
    compiled(tmp_path / "other.c", tmp_path / "other")
    with pytest.raises(UsageError, match="is of another build than the kernel that boots"):
        symbols.get(tmp_path, elsewhere, built.image, cache, vmlinux=tmp_path / "other")
    assert not symbols.fetchable(elsewhere, built.image)
    with pytest.raises(KernelUnavailableError, match=r"the vmlinux of .* is not known"):
        symbols.get(tmp_path, elsewhere, built.image, cache)


def test_those_of_packages_are_kept_for_a_while(
    built: BuiltProject, cache: Cache, tmp_path: Path
) -> None:
    packages = (Package("linux-image-6.1.192", "6.1.192-2", "0" * 64),)
    image = dataclasses.replace(
        built.image, digest="sha256:1", provenance=Provenance("apt bookworm-security", packages)
    )
    assert symbols.fetchable(kernel({"apt": {"suite": "bookworm-security"}}), image)
    assert symbols.at_hand(tmp_path, image, cache) is None
    folder = cache.root / "symbols/linux-image-6.1.192-dbg_6.1.192-2_x86_64"
    (folder / "source").mkdir(parents=True)
    (folder / "vmlinux").write_bytes((built.objects / "vmlinux").read_bytes())
    long_ago = time.time() - 15 * 24 * 3600
    os.utime(folder, (long_ago, long_ago))
    found = symbols.at_hand(tmp_path, image, cache)
    assert found is not None
    assert found.origin == "linux-image-6.1.192-dbg 6.1.192-2"
    # Looked at just now, it is in use.
    assert symbols.prune(cache, unused_seconds=3600) == []
    [pruned] = symbols.prune(cache, unused_seconds=0)
    assert re.match(r"symbols/linux-image-6\.1\.192-dbg", pruned.name)
    assert pruned.size_bytes > 1000
    assert not folder.exists()
