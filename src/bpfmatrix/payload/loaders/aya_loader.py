"""`loader-aya`, built by cargo: our sources in Rust, and the crates that Cargo.lock pins.

The executable is static, and is linked by clang with Debian's C library (`sysroot`), as the loader
in C is. Rust's standard library for an architecture is the toolchain's.
"""

import json
import os
import re
import shutil
from pathlib import Path

from bpfmatrix.errors import BuildError, ToolMissingError
from bpfmatrix.host import clang, tools
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of, sha256
from bpfmatrix.host.installation import CHECKOUT
from bpfmatrix.host.process import output, run_merged
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.payload.loaders import sysroot

__all__ = ["OLDEST_RUST", "SOURCES", "WRITTEN_FOR", "build", "check_tools", "key"]

SOURCES = CHECKOUT / "support/loaders/aya"
"""The folder of our own sources, which a wheel does not have."""
OLDEST_RUST = (1, 95)
"""The oldest compiler that builds the crates: aya uses `cfg_select!`, which 1.95 made stable."""

WRITTEN_FOR = ("x86_64", "aarch64")
"""The architectures of `raw` in support/loaders/aya/src/calls.rs, where it makes system calls."""

_RUST = ".".join(map(str, OLDEST_RUST))
_ADVICE = f"Install Rust {_RUST} or newer, by rustup or from Debian 13's backports."
_SHOWN_LINES = 40


def key(arch: str) -> str:
    """Return a checksum of what the executable is made of.

    ToolMissingError if cargo, rustc or clang is missing.
    """
    _cargo()
    names = ("Cargo.toml", "Cargo.lock", ".cargo/config.toml")
    files = (*(SOURCES / name for name in names), *sorted((SOURCES / "src").glob("*.rs")))
    contents = [(path.name, sha256(path.read_bytes())) for path in files]
    return key_of([arch, contents, _rust(), str(clang.compiler().resolve()), sysroot.KEY])


def build(arch: str, cache: Cache, made: Path, progress: Progress = silent) -> None:
    """Build the loader for an architecture as the file `made`.

    ToolMissingError if a tool is missing, the compiler is too old, or it lacks the standard library
    of an architecture that is not the host's; BuildError with what cargo said, such as that it
    can't fetch a crate; the errors of `sysroot.obtain`.
    """
    check_tools(arch)
    cargo = _cargo()
    target = _target(arch)
    compiler = clang.compiler()
    linker = clang.linker_options(compiler, arch)
    libraries = sysroot.obtain(arch, cache, progress)
    with cache.staging() as staging:
        root = staging / "root"
        root.mkdir()
        unpacked = run_merged(["tar", "--extract", "--file", libraries, "--directory", root])
        if unpacked.returncode != 0:
            raise BuildError(f"{libraries} can't be unpacked: {unpacked.stdout.strip()}")
        options = (f"--target={arch}-linux-gnu", f"--sysroot={root}", *linker)
        home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
        flags = [
            "-Ctarget-feature=+crt-static",
            *(f"-Clink-arg={option}" for option in options),
            # No path of this machine gets into the executable.
            *(f"--remap-path-prefix={path}=" for path in (f"{home}/", f"{SOURCES}/")),
        ]
        progress(f"cargo build of loader-aya for {arch}")
        # Cargo adds the flags of .cargo/config.toml, which it finds from the folder of the sources.
        command: list[str | Path] = [
            *(cargo, "build", "--release", "--locked", "--ignore-rust-version", "--quiet"),
            *("--target", target, "--target-dir", staging / "built"),
            *("--config", f"target.{target}.rustflags={json.dumps(flags)}"),
            *("--config", f"target.{target}.linker={json.dumps(str(compiler))}"),
        ]
        done = run_merged(command, SOURCES)
        if done.returncode != 0:
            lines = done.stdout.strip().splitlines()[:_SHOWN_LINES]
            raise BuildError("\n  ".join(("cargo could not build loader-aya:", *lines)))
        shutil.move(staging / "built" / target / "release/loader-aya", made)


def check_tools(arch: str) -> None:
    """Raise what `build` raises for an architecture before it fetches or builds anything."""
    _cargo()
    _check_age(_rust())
    _check_target(arch, _target(arch))
    clang.linker_options(clang.compiler(), arch)


def _cargo() -> Path:
    cargo = tools.find("cargo")
    if cargo is None:
        raise ToolMissingError("cargo is not installed", _ADVICE)
    return cargo


def _target(arch: str) -> str:
    return f"{arch}-unknown-linux-gnu"


def _rust() -> str:
    """Return what rustc says about its version and its host."""
    rustc = tools.require("rustc", "rustc")
    return output([rustc, "--version", "--verbose"], "rustc can't be run", error=BuildError)


def _check_age(version: str) -> None:
    found = re.match(r"rustc (\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_RUST:
        raise ToolMissingError(f"{version.splitlines()[0]} is too old for loader-aya", _ADVICE)


def _check_target(arch: str, target: str) -> None:
    if arch not in WRITTEN_FOR:
        raise BuildError(
            f"loader-aya is for {' and '.join(WRITTEN_FOR)} only: it makes system calls itself",
            f"Load the objects on {arch} with another loader: --loader cilium-ebpf.",
        )
    rustc = tools.require("rustc", "rustc")
    question = ("--print", "target-libdir", "--target", target)
    folder = output([rustc, *question], "rustc can't be run", error=BuildError).strip()
    if not any(Path(folder).glob("libstd-*.rlib")):
        package = ARCHITECTURES[arch].debian
        raise ToolMissingError(
            f"the Rust compiler has no standard library for {target}",
            f"Run `rustup target add {target}`, or install libstd-rust-dev:{package} if the "
            "compiler is Debian's.",
        )
