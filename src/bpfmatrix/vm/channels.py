"""The channels of a machine: a socket pair for each, of which QEMU has the other end."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

__all__ = ["CHANNELS", "PORTS", "Channels", "socket_pairs"]

CHANNELS = ("qmp", "console", "control", "output", "input", "error")

PORTS = ("control", "output", "input", "error")


class Channels:
    """Our ends of QEMU's sockets."""

    def __init__(self, ours: dict[str, socket.socket]) -> None:
        self.qmp = ours["qmp"]
        self.ours = ours
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> None:
        """Turn the sockets into streams of the running loop."""
        self.console, writer = await asyncio.open_connection(sock=self.ours["console"])
        self._writers.append(writer)
        self.control, self.control_writer = await asyncio.open_connection(sock=self.ours["control"])
        self._writers.append(self.control_writer)

    async def open_output(self) -> None:
        """Turn the socket of the tests' output into a stream."""
        self.output, writer = await asyncio.open_connection(sock=self.ours["output"])
        self._writers.append(writer)

    async def open_error(self) -> asyncio.StreamReader:
        """Turn the socket of the core files into a stream, and return it."""
        reader, writer = await asyncio.open_connection(sock=self.ours["error"])
        self._writers.append(writer)
        return reader

    def close(self) -> None:
        """Close all of them."""
        for writer in self._writers:
            writer.close()
        for name in ("qmp", "output", "input", "error"):
            self.ours[name].close()


@contextlib.contextmanager
def socket_pairs() -> Iterator[tuple[dict[str, socket.socket], dict[str, socket.socket]]]:
    """Give our ends and QEMU's. Sockets without a name leave no file behind, whoever dies."""
    pairs = {name: socket.socketpair() for name in CHANNELS}
    try:
        yield (
            {name: pair[0] for name, pair in pairs.items()},
            {name: pair[1] for name, pair in pairs.items()},
        )
    finally:
        for pair in pairs.values():
            pair[1].close()
