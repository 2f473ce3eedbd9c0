"""A folder on loopback, served by a real web server that can be told to fail."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        web: Web = self.server.web  # type: ignore[attr-defined]
        web.requests.append(self.path)
        status = web.next_statuses.pop(0) if web.next_statuses else web.status
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if web.retry_after_seconds:
                self.send_header("Retry-After", str(web.retry_after_seconds))
            self.end_headers()
        elif web.cut_after is not None:
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: web.cut_after])
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Web:
    """Serves `root` from its making until `stop`. It knows no ranges."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.requests: list[str] = []
        self.status = 0
        """An HTTP status that answers everything, if it is not 0."""
        self.next_statuses: list[int] = []
        """HTTP statuses that answer the next requests, one each."""
        self.retry_after_seconds = 0
        """What `Retry-After` says beside such a status, if it is not 0."""
        self.cut_after: int | None = None
        """How many bytes of a file are sent before the connection is closed."""
        handler = functools.partial(_Handler, directory=str(root))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.web = self  # type: ignore[attr-defined]
        # The interval is what `shutdown` waits for.
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def stop(self) -> None:
        """Close the port: from here on nothing can be reached."""
        self._server.shutdown()
        self._server.server_close()
