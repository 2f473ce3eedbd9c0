"""An example of each key's value, by the model that has the key; messages about mistakes show it.

The keys are as in kernels.yaml, and each example is YAML that the key takes.
"""

from collections.abc import Mapping

from pydantic import BaseModel

from bpfmatrix.config import archives, models, settings, sources

__all__ = ["EXAMPLES", "MINIMAL", "example_of"]

MINIMAL = 'kernels: {"6.1": {source: {apt: {suite: bookworm-security}}}}'
"""The smallest useful kernels.yaml."""

_SOURCE = "{apt: {suite: bookworm-security}}"
_MACHINE = {
    "arch": "x86_64",
    "qemu": "{memory: 1G, cpus: 2}",
    "timeout": "{boot: 20s, test: 60s}",
    "modules": "[kvm, loop]",
    "kernel_args": '["quiet", "sysctl.net.core.bpf_jit_enable=1"]',
    "cgroup": "v2",
    "kernel_warnings": "report",
    "dump": "true",
    "isolation": "kernel",
}
_SETTINGS = {
    "args": '["-test.v"]',
    "env": '{LOG_LEVEL: debug, COUNT: "5"}',
    "format": "auto",
    "user": "nobody",
    "capabilities": "[CAP_BPF, CAP_PERFMON]",
    "memlock": "64K",
    "limits": "{nofile: 1024, time: 30s}",
    "folder": "/payload",
}
_PRIVILEGES = {"unprivileged_bpf": "false", "lockdown": "integrity", "bpf_token": "true"}
_VALUES = {"set": "{target_pid: 1}", "map_sizes": "{events: 4096}"}
_LIMIT = "1024"

EXAMPLES: Mapping[type[BaseModel], Mapping[str, str]] = {
    models.Config: {
        "defaults": "{qemu: {memory: 1G}}",
        "payload": "{ebpf: bpf, go: {module: .}}",
        "verify": "{objects: [{path: build/*.bpf.o}]}",
        "expect": '[{kernels: ["5.*"], test: TestRing, reason: no ring buffer}]',
        "kernels": f'{{"6.1": {{source: {_SOURCE}}}}}',
        "registry": "registry.example.org/kernels",
        "archives": "{debian: http://mirror.example.org/debian}",
        "profiles": "{user: {user: nobody}}",
        "matrix": '["5.10", "6.1"]',
        "pre_push": '["6.1"]',
    },
    models.Defaults: _MACHINE,
    models.KernelEntry: {**_MACHINE, "source": _SOURCE},
    models.Qemu: {
        "memory": "512M",
        "cpus": "2",
        "accel": "auto",
        "extra_args": '["-cpu", "cortex-a76"]',
    },
    models.Timeouts: {"boot": "20s", "test": "60s", "run": "20m"},
    models.GoTests: {
        "module": ".",
        "packages": '["./..."]',
        "tags": "[integration]",
        "flags": "[-race]",
        "cgo": "false",
        "env": "{CC: clang}",
    },
    models.PayloadConfig: {
        **_SETTINGS,
        **_PRIVILEGES,
        "ebpf": "bpf",
        "go": "{module: ., tags: [integration]}",
        "binaries": "[build/test_loader]",
        "packages": '{"internal/*": {user: nobody}}',
        "rootfs": '"oci:debian:12"',
        "share": "[tests/data]",
        "network": "none",
        "repository": "true",
        "files": "{data: tests/data}",
        "listed": "{python: [python3, tools/list_files.py]}",
    },
    models.Matrix: {"kernels": '["5.10", "6.1"]', "includes": "[tests, verify]"},
    models.Preset: _VALUES,
    models.VerifyObjects: {
        **_VALUES,
        "path": '"build/*.bpf.o"',
        "presets": "{small: {map_sizes: {events: 64}}}",
        "loader": "libbpf",
        "variants": "[[on_exec_fentry, on_exec_kprobe]]",
        "optional": "[on_exec]",
        "requires": "5.17 bpf_loop",
    },
    models.Verify: {
        "objects": "[{path: build/*.bpf.o}]",
        "loader": "libbpf",
        "attach": "true",
        "limit": "30s",
        "max_insns": "80%",
    },
    models.Expectation: {
        "kernels": '["5.*"]',
        "program": "on_exec",
        "test": "TestRing*",
        "warning": '"*suspicious RCU usage*"',
        "object": "build/trace.bpf.o",
        "loader": "libbpf",
        "outcome": "failed",
        "reason": "no ring buffer before 5.8",
        "until": "2027-01-31",
    },
    settings.Limits: {
        **dict.fromkeys(("cpu", "nofile", "nproc", "sigpending", "msgqueue", "rtprio"), _LIMIT),
        **dict.fromkeys(("core", "data", "fsize", "stack", "as"), "8M"),
        "time": "30s",
    },
    settings.Settings: _SETTINGS,
    settings.Binary: {**_SETTINGS, "path": "build/test_loader"},
    settings.Profile: {**_SETTINGS, **_PRIVILEGES},
    sources.Source: {
        "apt": "{suite: bookworm-security}",
        "dnf": "{repository: https://example.org/BaseOS/x86_64/os, key: vendor.asc}",
        "package": "{files: [linux-image-6.1.deb]}",
        "oci": '"ghcr.io/cilium/ci-kernels:6.6"',
        "directory": "my-kernels/6.1",
        "build": '{version: "6.1"}',
    },
    sources.AptSource: {
        "suite": "bookworm-security",
        "package": "linux-image-cloud-amd64",
        "mirror": "http://archive.example.org/ubuntu",
        "keyring": "keys/archive.gpg",
        "components": "[main]",
    },
    sources.DnfSource: {
        "repository": "https://example.org/BaseOS/x86_64/os",
        "mirrorlist": "false",
        "package": "kernel-core",
        "extra_packages": "[kernel-modules-extra]",
        "key": "keys/vendor.asc",
        "signed_metadata": "true",
    },
    sources.PackageSource: {
        "files": "[linux-image-6.1.deb]",
        "sha256": f'["{"0123456789abcdef" * 4}"]',
    },
    sources.BuildSource: {
        "version": '"6.1"',
        "from": "kernel.org",
        "url": "https://cdn.kernel.org/pub/linux/kernel",
        "keyring": "keys/kernel.org.gpg",
        "sha256": f'"{"0123456789abcdef" * 4}"',
        "suite": "bookworm",
        "config": "[my.config]",
        "debug": "true",
    },
    archives.Archives: {
        "debian": "http://mirror.example.org/debian",
        "debian-security": "http://mirror.example.org/debian-security",
        "check_dates": "true",
    },
}


def example_of(model: type[BaseModel] | None, key: str) -> str:
    """Return a key and its value, such as `memory: 512M`; empty if there is no example."""
    for base in model.__mro__ if model is not None else ():
        if value := EXAMPLES.get(base, {}).get(key):
            return f"{key}: {value}"
    return ""
