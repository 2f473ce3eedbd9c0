"""A TCP proxy that closes connections in the middle."""

import contextlib
import socket
import threading


class CuttingProxy:
    """Passes connections on to a server, and closes each after so many bytes of its answers."""

    def __init__(self, target_port: int, limit_bytes: int) -> None:
        self._target, self.limit_bytes = target_port, limit_bytes
        self.headers_only = False
        """Whether to close a connection behind the headers of the first answer."""
        self.request_limits: list[int] = []
        """How many bytes of requests the next connections pass; later ones pass all."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            sent = self.request_limits.pop(0) if self.request_limits else 1 << 60
            threading.Thread(target=self._pass, args=(client, server, sent), daemon=True).start()
            limits = (self.limit_bytes, self.headers_only)
            threading.Thread(target=self._pass, args=(server, client, *limits), daemon=True).start()

    def _pass(
        self,
        source: socket.socket,
        sink: socket.socket,
        limit_bytes: int = 1 << 60,
        headers_only: bool = False,
    ) -> None:
        with contextlib.suppress(OSError):
            while limit_bytes > 0 and (data := source.recv(min(limit_bytes, 1 << 16))):
                if headers_only and b"\r\n\r\n" in data:
                    limit_bytes = data.index(b"\r\n\r\n") + 4
                    data = data[:limit_bytes]
                sink.sendall(data)
                limit_bytes -= len(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if limit_bytes <= 0:
            source.close()  # or else it would take in what its peer goes on to send

    def close(self) -> None:
        self._listener.close()
