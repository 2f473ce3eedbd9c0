"""What a build asks for and what came of it; make's progress and errors. No kernel is built."""

import errno
import fcntl
import os
import queue
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from bpfmatrix.cli.kernels_output import print_kernel_build
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.config.sources import BuildSource
from bpfmatrix.errors import BpfmatrixError, ToolMissingError, UsageError
from bpfmatrix.host import tools
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels import build
from bpfmatrix.kernels.build import BuiltKernel, builder, configuration, kconfig, make
from bpfmatrix.kernels.build.make import Make
from tests.processes import Watched
from tests.tool import REPOSITORY

KCONFIG = """\
mainmenu "Linux"
source "arch/$(SRCARCH)/Kconfig"

config NET
\tbool "Networking"
\thelp
\t  config FAKE is only a word of this text.

\t  depends on NOTHING, it says.

if NET
config INET
\tbool "TCP"

menu "Further"
\tdepends on INET && !SMALL
config NETKIT
\ttristate "netkit"
\tdepends on BPF || \\
\t\t(X86 && NUMBER >= 4)
config PLAIN
\tbool "Plain" if EXPERT
endmenu
endif

config SMALL
\tbool "Small"
config EXPERT
\tbool "Expert"
config BPF
\tbool "BPF"
config NUMBER
\tint "Number"
config HIDDEN
\tbool
config ASKS
\tbool "Asks"
\tselect HIDDEN if NET

choice
\tprompt "One of"
config ONE
\tbool "one"
config OTHER
\tbool "other"
endchoice
"""


@pytest.fixture
def known(tmp_path: Path) -> kconfig.Kconfig:
    (tmp_path / "arch/x86").mkdir(parents=True)
    (tmp_path / "Kconfig").write_text(KCONFIG)
    (tmp_path / "arch/x86/Kconfig").write_text("config X86\n\tdef_bool y\n")
    return kconfig.load(tmp_path, "x86")


def test_symbols_of_a_tree(known: kconfig.Kconfig) -> None:
    assert list(known.symbols) == [
        *("X86", "NET", "INET", "NETKIT", "PLAIN", "SMALL", "EXPERT", "BPF", "NUMBER", "HIDDEN"),
        *("ASKS", "ONE", "OTHER"),
    ]
    assert known.symbols["NETKIT"][0].depends == [
        "NET",
        "INET && !SMALL",
        "BPF ||  \t\t(X86 && NUMBER >= 4)",
    ]


@pytest.mark.parametrize(
    ("name", "result", "reason"),
    [
        ("INET", {}, "it needs NET (NET is n)"),
        ("PLAIN", {"NET": "y", "INET": "y"}, "it needs EXPERT (EXPERT is n)"),
        (
            "PLAIN",
            {"NET": "y", "SMALL": "y", "EXPERT": "y"},
            "it needs INET (INET is n) and !SMALL (SMALL is y)",
        ),
        ("HIDDEN", {}, "it can't be asked for; it is selected by ASKS"),
        ("OTHER", {"ONE": "y"}, "another option of its choice is set"),
    ],
)
def test_why_an_option_did_not_stick(
    known: kconfig.Kconfig, name: str, result: dict[str, str], reason: str
) -> None:
    assert known.why_not(name, "y", result) == reason


def test_why_an_option_is_on(known: kconfig.Kconfig) -> None:
    result = {"HIDDEN": "y", "ASKS": "y"}
    assert known.why_not("HIDDEN", "n", result) == "ASKS selects it"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("A", 2),
        ("M", 1),
        ("!M", 1),
        ("GONE", 0),
        ("A && GONE", 0),
        ("GONE || A && M", 1),
        ("!(GONE || M)", 1),
        ("N = 4", 2),
        ("N >= 0x5", 0),
        ('T = "text"', 2),
        ("T != text", 2),
        ("$(cc-option,-mfoo) && A", 2),
        ("$(success,test $(x) = y)", 2),
        ("A=y", 2),
    ],
)
def test_expressions(expression: str, value: int) -> None:
    result = {"A": "y", "M": "m", "N": "4", "T": '"text"'}
    assert kconfig.evaluate(expression, result) == value


def fragment(folder: Path, text: str, name: str = "own.config") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_comparison(known: kconfig.Kconfig, tmp_path: Path) -> None:
    asked = configuration.read(
        [
            fragment(tmp_path, "CONFIG_BPF=n\nCONFIG_NET=y\n", "first.config"),
            fragment(
                tmp_path,
                "# A reason.\nCONFIG_BPF=y\nCONFIG_INET=y\nCONFIG_NETKIT=m\nCONFIG_EXPERTS=y\n"
                "CONFIG_FAR_AWAY=y\n# CONFIG_GONE is not set\n# CONFIG_SMALL is not set\n",
            ),
        ]
    )
    result = configuration.parse_result(
        "# A comment\nCONFIG_NET=y\nCONFIG_BPF=y\nCONFIG_NETKIT=y\n# CONFIG_INET is not set\n"
    )
    differences, unknown = configuration.compare(asked, result, known)
    assert [(each.option.where, each.option.name, each.found) for each in differences] == [
        ("own.config:3", "INET", "n")
    ]
    assert unknown == ["EXPERTS", "FAR_AWAY"]
    with pytest.raises(BpfmatrixError, match=r"own\.config:3: CONFIG_INET=y came out as n"):
        configuration.refuse(differences, "6.1.9")
    configuration.refuse([], "6.1.9")


def test_what_the_architecture_does_not_have_is_no_mistake(
    known: kconfig.Kconfig, tmp_path: Path
) -> None:
    known.symbols["FPROBE"] = [kconfig.Definition(["NET", "RETHOOK && HAVE_RETHOOK"], prompt=True)]
    known.symbols["FPROBE_EVENTS"] = [kconfig.Definition(["FPROBE"], prompt=True)]
    asked = configuration.read(
        [fragment(tmp_path, "CONFIG_FPROBE=y\nCONFIG_FPROBE_EVENTS=y\nCONFIG_INET=y\n")]
    )
    differences, unknown = configuration.compare(asked, {}, known)
    assert unknown == [
        "FPROBE (not on this architecture)",
        "FPROBE_EVENTS (not on this architecture)",
    ]
    assert [each.option.name for each in differences] == ["INET"]


def test_a_near_name_is_suggested(known: kconfig.Kconfig, tmp_path: Path) -> None:
    known.symbols["BPF_SYSCALL"] = [kconfig.Definition([], prompt=True)]
    asked = configuration.read([fragment(tmp_path, "CONFIG_BPF_SYSCAL=y\n")])
    _, unknown = configuration.compare(asked, {}, known)
    assert unknown == ["BPF_SYSCAL (did you mean BPF_SYSCALL?)"]


@pytest.mark.parametrize(
    "line",
    ["BPF=y", "CONFIG_BPF", "CONFIG_BPF=yes", "CONFIG_BPF = y", 'CONFIG_LSM="bpf', "CONFIG-BPF=y"],
)
def test_a_line_that_is_no_option(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"own\.config:2: .* is not an option"):
        configuration.read([fragment(tmp_path, f"CONFIG_NET=y\n{line}\n")])


def test_fragments_and_the_project_s_own(tmp_path: Path) -> None:
    (tmp_path / "ci-kernels").mkdir()
    own = fragment(tmp_path / "ci-kernels", "", "ebpf.config")
    further = fragment(tmp_path, "CONFIG_X=y\n")
    found = configuration.find(tmp_path, "x86_64", True, [Path("own.config")])
    shipped = REPOSITORY / "ci-kernels"
    assert found == [
        shipped / "base.config",
        own,
        shipped / "arch-x86_64.config",
        shipped / "debug.config",
        further,
    ]


def test_a_fragment_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no fragment .*nowhere\.config"):
        configuration.find(tmp_path, "x86_64", False, [Path("nowhere.config")])


def test_the_fragments_of_this_repository_are_well_formed() -> None:
    paths = sorted((REPOSITORY / "ci-kernels").glob("*.config"))
    asked = [
        option for path in paths for option in configuration.parse(path.read_text(), path.name)
    ]
    assert len(asked) > 200
    for path in paths:
        options = configuration.parse(path.read_text(), path.name)
        assert len({option.name for option in options}) == len(options), f"twice in {path.name}"


LOG = """\
  CC      kernel/bpf/core.o
make[3]: *** [scripts/Makefile.build:250: kernel/bpf/core.o] Error 1
kernel/bpf/core.c: In function 'f':
kernel/bpf/core.c:1:2: error: 'x' undeclared (first use in this function)
    1 |  x;
      |  ^
make[2]: *** [scripts/Makefile.build:500: kernel] Error 2
make: *** Waiting for unfinished jobs....
"""


def test_other_sources_are_configured_anew(
    tmp_path: Path, known: kconfig.Kconfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = []

    class Maker(Make):
        def configure(self, requested: str) -> None:
            configured.append(requested)
            (self.objects / "requested.config").write_text(requested)
            (self.objects / ".config").write_text("CONFIG_NET=y\n")

    objects = tmp_path / "objects"
    objects.mkdir()
    maker = Maker(tmp_path, "6.1.0", objects, "x86_64")
    fragment = tmp_path / "a.config"
    fragment.write_text("CONFIG_NET=y\n")
    requested = configuration.read([fragment])
    for sources, times in (("one", 1), ("one", 1), ("two", 2), ("two", 2), ("one", 3)):
        assert builder.configure(maker, requested, sources) == []
        # Other sources may have other options, even if the same ones are asked for.
        assert len(configured) == times


def test_first_error_of_a_log() -> None:
    lines = LOG.splitlines()
    assert make.first_error(lines)[:2] == lines[3:5]
    assert make.first_error(["FAILED: load BTF from vmlinux", "x"]) == [
        "FAILED: load BTF from vmlinux",
        "x",
    ]
    assert make.first_error(["a", "b"]) == ["a", "b"]


def little_make(tmp_path: Path, makefile: str, version: str = "6.1.9") -> Make:
    tree, objects = tmp_path / "tree", tmp_path / "objects"
    tree.mkdir()
    objects.mkdir()
    (tree / "Makefile").write_text(makefile)
    return Make(tree, version, objects, os.uname().machine)


def test_progress_of_make(tmp_path: Path) -> None:
    steps = "\\n".join(
        ["  CC      a.o", "  CC [M]  b.o", "noise", "  LD      vmlinux.o", "  BTF     .btf.o"]
    )
    maker = little_make(tmp_path, f"all:\n\t@printf '{steps}\\n'\n")
    told: list[tuple[str, float | None]] = []
    count = maker.run(["all"], lambda text, fraction=None: told.append((text, fraction)), 4, 8)
    assert count == 4
    assert told == [
        ("compiling", 5 / 8),
        ("compiling", 6 / 8),
        ("compiling", 6 / 8),
        ("linking", 7 / 8),
        ("making BTF", 0.99),
    ]
    assert "noise" in maker.log.read_text()


def test_a_failure_shows_the_compiler_s_words(tmp_path: Path) -> None:
    maker = little_make(tmp_path, "all:\n\t$(CC) -c broken.c -o /dev/null\n")
    (maker.tree / "broken.c").write_text("int f(void) { return x; }\n")
    with pytest.raises(BpfmatrixError, match=r"broken\.c:1:\d+: error: .x. undeclared") as caught:
        maker.run(["all"])
    assert str(maker.log) in caught.value.advice


def test_an_interrupt_ends_make_and_its_children(tmp_path: Path) -> None:
    maker = little_make(
        tmp_path, "all:\n\t@sleep 1000 & echo $$! >pid; echo '  CC      a.o'; wait\n"
    )

    children: list[Watched] = []

    def interrupt(text: str, fraction: float | None = None) -> None:
        children.append(Watched(int((maker.tree / "pid").read_text())))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maker.run(["all"], interrupt)
    [child] = children
    assert child.ends_within(10)


def test_foreign_settings_do_not_reach_the_kernel_s_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ARCH", "KBUILD_OUTPUT", "KCONFIG_CONFIG", "CROSS_COMPILE", "MAKEFLAGS"):
        monkeypatch.setenv(name, "-n" if name == "MAKEFLAGS" else "wrong")
    maker = little_make(tmp_path, "all:\n\t@echo $(ARCH) $(KBUILD_OUTPUT)$(CROSS_COMPILE) env\n")
    maker.run(["all"])
    assert f"{ARCHITECTURES[maker.arch].kernel} env\n" in maker.log.read_text()


@pytest.mark.parametrize(
    ("version", "script", "wrapped"),
    [
        ("5.4.276", None, True),
        ("5.10.100", "extra_paholeopt=--btf_gen_floats", True),
        ("5.10.262", 'extra="--skip_encoding_btf_enum64"', False),
        ("6.1.192", None, False),
    ],
)
def test_old_kernels_get_no_enum64(
    tmp_path: Path, version: str, script: str | None, wrapped: bool
) -> None:
    maker = little_make(tmp_path, "all:\n\t@echo pahole is $(PAHOLE)\n", version)
    if script is not None:
        (maker.tree / "scripts").mkdir()
        (maker.tree / "scripts/pahole-flags.sh").write_text(script)
    maker.run(["all"])
    assert ("without-enum64" in maker.log.read_text()) == wrapped


def test_pahole_is_told_so_but_not_when_asked_for_its_version(tmp_path: Path) -> None:
    maker = little_make(tmp_path, "all:\n\t@$(PAHOLE) --version; $(PAHOLE) -J a.o\n", "5.4.276")
    fake = tmp_path / "bin/pahole"
    fake.parent.mkdir()
    fake.write_text(
        '#!/bin/sh\n[ "$1" = --help ] && echo "--skip_encoding_btf_enum64"\necho "$*"\n'
    )
    fake.chmod(0o755)
    os.environ["PATH"] = f"{fake.parent}:{os.environ['PATH']}"
    try:
        maker.run(["all"])
    finally:
        os.environ["PATH"] = os.environ["PATH"].partition(":")[2]
    assert "--version\n" in maker.log.read_text()
    assert "--skip_encoding_btf_enum64 -J a.o\n" in maker.log.read_text()


def test_all_missing_tools_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tools, "find", lambda name: None if name in ("flex", "pahole") else Path("/bin/x")
    )
    with pytest.raises(ToolMissingError, match="needs flex, pahole") as caught:
        make.require_tools(os.uname().machine)
    assert caught.value.advice == "Run: sudo apt-get install flex dwarves"


def test_a_cross_compiler_is_named_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find", lambda name: Path("/bin/x") if "-" not in name else None)
    foreign = "aarch64" if os.uname().machine == "x86_64" else "x86_64"
    with pytest.raises(ToolMissingError) as caught:
        make.require_tools(foreign)
    assert f"gcc-{foreign.replace('_', '-')}-linux-gnu" in caught.value.advice


@pytest.fixture
def source(tmp_path: Path) -> BuildSource:
    """A build of a folder that has a kernel's version, but nothing that could be built."""
    tree = tmp_path / "linux"
    tree.mkdir()
    (tree / "Kconfig").touch()
    (tree / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 9\n")
    return BuildSource.model_validate({"version": "6.1", "from": "linux"})


def test_no_space_is_said_before_anything_is_done(
    tmp_path: Path, cache: Cache, source: BuildSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "require_tools", lambda arch: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 30))
    with pytest.raises(BpfmatrixError, match=r"takes \d\.\d GB and .* has 1\.1 GB left"):
        build.build(source, "x86_64", tmp_path, cache)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_build_with_options_that_nobody_tried_says_so(
    tmp_path: Path,
    cache: Cache,
    source: BuildSource,
    monkeypatch: pytest.MonkeyPatch,
    arch: str,
) -> None:
    monkeypatch.setattr(make, "require_tools", lambda arch: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    said: list[str] = []
    with pytest.raises(BpfmatrixError, match=r"GB left"):
        build.build(source, arch, tmp_path, cache, lambda text, *_: said.append(text))
    fragment = (REPOSITORY / f"ci-kernels/arch-{arch}.config").read_text()
    never = "No kernel was built with this fragment yet" in fragment
    assert (
        any(f"nobody has built a kernel with bpfmatrix's options for {arch}" in one for one in said)
        == never
    )


def test_a_disk_that_fills_up_is_no_traceback(
    tmp_path: Path, cache: Cache, source: BuildSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(make, "require_tools", lambda arch: None)
    monkeypatch.setattr(shutil, "disk_usage", full)
    with pytest.raises(BpfmatrixError, match=r"can't be written \(No space left on device\)"):
        build.build(source, "x86_64", tmp_path, cache)


def test_the_second_build_says_that_it_waits(
    tmp_path: Path, cache: Cache, source: BuildSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "require_tools", lambda arch: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    told: queue.Queue[str] = queue.Queue()

    def refused() -> None:
        with pytest.raises(BpfmatrixError, match="GB left"):
            build.build(source, "x86_64", tmp_path, cache, lambda text, _=None: told.put(text))

    refused()
    (lock,) = (tmp_path / "ci-kernels/_build").glob("lock-*")
    with ThreadPoolExecutor() as pool:
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            second = pool.submit(refused)
            assert told.get(timeout=10) == "6.1.9: waiting for another build of it to end"
            assert not second.done()
        second.result(10)


def test_the_command_line_goes_over_kernels_yaml() -> None:
    declared = {"version": "6.1.9", "from": "apt", "debug": True}
    config = Config.model_validate(
        {"kernels": {"6.1": {"arch": "aarch64", "source": {"build": declared}}}}
    )
    source, arch = build.build_source(
        config, "6.1", {"suite": "sid", "from": "", "debug": False}, ""
    )
    assert (source.version, source.origin, source.suite, source.debug) == (
        "6.1.9",
        "apt",
        "sid",
        True,
    )
    assert arch == "aarch64"
    assert build.build_source(config, "5.4.276", {}, "")[0].origin == "kernel.org"
    with pytest.raises(UsageError, match="--sha256: expected a SHA-256"):
        build.build_source(config, "5.4.276", {"sha256": "12"}, "")
    with pytest.raises(UsageError, match="--arch mips"):
        build.build_source(config, "5.4.276", {}, "mips")


def test_what_was_built_is_taken_only_for_the_same_request(
    tmp_path: Path, source: BuildSource
) -> None:
    assert build.existing(source, "x86_64", tmp_path) is None


@pytest.mark.parametrize(
    ("version", "folder", "words"),
    [
        ("6.1", "6.1", "run it: KERN_DIR=ci-kernels invoke run --kernel 6.1\n"),
        ("6.1", "6.1-aarch64", "run it: invoke run --image ci-kernels/6.1-aarch64/vmlinuz\n"),
        ("6.2", "6.2", "run it: invoke run --image ci-kernels/6.2/vmlinuz\n"),
    ],
)
def test_what_to_do_with_a_kernel_that_was_built(
    library_project: Project,
    capsys: pytest.CaptureFixture[str],
    version: str,
    folder: str,
    words: str,
) -> None:
    made = library_project.root / "ci-kernels" / folder
    made.mkdir(parents=True)
    for name in ("vmlinuz", "vmlinux", "config", "System.map"):
        (made / name).touch()
    built = BuiltKernel(made, "6.1.192", "6.1.192", "a tree", (), (), 1.0, "key")
    print_kernel_build(library_project, built, version)
    assert capsys.readouterr().out.endswith(words)
