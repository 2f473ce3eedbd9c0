"""What the host's kernel knows of a running QEMU: its sockets, and its filters of system calls."""

import contextlib
import socket
import sys
from pathlib import Path

__all__ = ["internet_sockets", "is_filtered", "named_sockets"]


def is_filtered(pid: int) -> bool:
    """Return whether a process has a filter of system calls (SECCOMP_MODE_FILTER)."""
    return "\nSeccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()


def internet_sockets(pid: int) -> list[tuple[str, int]]:
    """Return the IPv4 and IPv6 sockets of a process, by their own address and port.

    Addresses of IPv6 are in hexadecimal.
    """
    inodes, found = _inodes(pid), []
    for table in ("tcp", "udp", "raw", "tcp6", "udp6", "raw6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] not in inodes:
                continue
            address, _, port = fields[1].partition(":")
            if not table.endswith("6"):
                address = socket.inet_ntoa(int(address, 16).to_bytes(4, sys.byteorder))
            found.append((address, int(port, 16)))
    return found


def named_sockets(pid: int) -> list[str]:
    """Return the names of the Unix sockets of a process that have one, and so can be reached."""
    inodes, found = _inodes(pid), []
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if fields[6] in inodes:
            found += fields[7:]
    return found


def _inodes(pid: int) -> set[str]:
    """Return the inode numbers of the sockets that a process has."""
    links = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a QEMU that starts closes descriptors
            links.append(str(path.readlink()))
    return {link[8:-1] for link in links if link.startswith("socket:[")}
