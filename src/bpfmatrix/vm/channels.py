"""The channels of a machine: a socket pair for each, of which QEMU has the other end.

`qmp` is QEMU's monitor and `console` the kernel's console. The others are virtio ports of the guest
(see `protocol`): `control`, and the streams `output`, `input` and `error`.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

__all__ = ["CHANNELS", "PORTS", "Channels", "socket_pairs"]

PORTS = ("control", "output", "input", "error")
CHANNELS = ("qmp", "console", *PORTS)


class Channels:
    """Our ends of the sockets."""

    def __init__(self, ours: dict[str, socket.socket]) -> None:
        self.qmp = ours["qmp"]
        self.console = ours["console"]
        self.ours = ours
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> None:
        """Open the control port as a stream of the running event loop."""
        self.control, self.control_writer = await asyncio.open_connection(sock=self.ours["control"])
        self._writers.append(self.control_writer)

    async def open_output(self) -> None:
        """Open the port of the tests' output as a stream."""
        self.output, writer = await asyncio.open_connection(sock=self.ours["output"])
        self._writers.append(writer)

    async def open_error(self) -> asyncio.StreamReader:
        """Open the port of the core files as a stream, and return it."""
        reader, writer = await asyncio.open_connection(sock=self.ours["error"])
        self._writers.append(writer)
        return reader

    def close(self) -> None:
        """Close all sockets."""
        for writer in self._writers:
            writer.close()
        for name in ("qmp", "output", "input", "error"):
            self.ours[name].close()


@contextlib.contextmanager
def socket_pairs() -> Iterator[tuple[dict[str, socket.socket], dict[str, socket.socket]]]:
    """Give our ends of new sockets and QEMU's ends, and close the latter in the end.

    Socket pairs have no names, so they leave no file behind if a process is killed.
    """
    pairs = {name: socket.socketpair() for name in CHANNELS}
    try:
        yield (
            {name: pair[0] for name, pair in pairs.items()},
            {name: pair[1] for name, pair in pairs.items()},
        )
    finally:
        for pair in pairs.values():
            pair[1].close()
