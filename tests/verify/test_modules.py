"""Which module of a kernel contains what a program needs."""

import os

import pytest

from bpfmatrix.kernels.image import KernelImage, Provenance
from bpfmatrix.verify.modules import UnloadedModules
from tests.verify.objectfiles import compiled

# In sorted order, the module that only imports the function comes first.
SOURCES = {
    "a_user": "int in_module(int); int uses(int x) { return in_module(x) + 1; }",
    "my-module": "int in_module(int x) { return x; }\nint __tracepoint_made;",
    "ops": 'const char made[] = "\\0bpf_struct_ops_hid_bpf_ops";',
    "needed": "int needed_function(int x) { return x; }",
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> KernelImage:
    folder = tmp_path_factory.mktemp("kernel")
    modules = folder / "lib/modules/6.1.0"
    for name, source in SOURCES.items():
        compiled(source, modules / f"kernel/{name}.ko")
    for path in modules.rglob("*.c"):
        path.unlink()
    depends = "".join(f"kernel/{name}.ko:\n" for name in SOURCES if name != "a_user")
    (modules / "modules.dep").write_text(f"{depends}kernel/a_user.ko: kernel/needed.ko\n")
    (modules / "modules.builtin").write_text("")
    (modules / "kernel/empty.ko").write_text("")
    (folder / "vmlinuz").write_bytes(b"")
    image = KernelImage(
        arch=os.uname().machine,
        release="6.1.0",
        version="6.1",
        digest="sha256:0",
        boot=folder / "vmlinuz",
        pvh=False,
        vmlinuz=folder / "vmlinuz",
        modules=modules,
        provenance=Provenance("here", ()),
    )
    image.describe()
    return image


@pytest.mark.parametrize(
    ("kind", "name", "module"),
    [
        ("symbol", "in_module", "my_module"),
        ("function", "in_module", "my_module"),
        ("function", "__tracepoint_made", ""),
        ("symbol", "__tracepoint_made", "my_module"),
        ("symbol", "in_mod", ""),
        ("symbol", "", ""),
        ("struct_ops", "hid_bpf_ops", "ops"),
        ("struct_ops", "sched_ext_ops", ""),
    ],
)
def test_a_module_that_defines_it_is_named(
    image: KernelImage, kind: str, name: str, module: str
) -> None:
    assert UnloadedModules(image, []).having(kind, name) == module


def test_a_module_that_is_loaded_is_not_named(image: KernelImage) -> None:
    assert UnloadedModules(image, []).having("symbol", "needed_function") == "needed"
    assert UnloadedModules(image, ["my_module"]).having("symbol", "in_module") == ""
    # Nor is one that a loaded module depends on.
    assert UnloadedModules(image, ["a_user"]).having("symbol", "needed_function") == ""


def test_a_kernel_without_modules_has_no_answer(image: KernelImage) -> None:
    bare = KernelImage(**{**vars(image), "modules": None})
    assert UnloadedModules(bare, []).having("symbol", "in_module") == ""
