"""nginx on loopback: a web server that knows ranges and entity tags."""

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CONFIG = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
user root;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}/www; limit_rate {rate}; }}
}}
"""


@dataclass
class Nginx:
    """Serves `<folder>/www` between `start` and `stop`, on the same port each time."""

    folder: Path
    port: int = 0
    process: "subprocess.Popen[str] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def root(self) -> Path:
        return self.folder / "www"

    def start(self, rate: str = "0") -> None:
        """Start the server; `rate` is its limit for a connection, in bytes a second."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        config = self.folder / "nginx.conf"
        config.write_text(_CONFIG.format(folder=self.folder, port=self.port, rate=rate))
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert nginx, "apt-get install nginx-light"
        self.process = subprocess.Popen(
            [nginx, "-c", config, "-e", "stderr"], stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if "start worker process " in line:  # it listens
                return
        raise AssertionError("".join(said))

    def stop(self) -> None:
        """Close every connection and the port."""
        if self.process:
            self.process.terminate()
            self.process.communicate()
            self.process = None

    def statuses(self, name: str) -> list[int]:
        """Stop the server; return the HTTP statuses of its responses for a file, in their order."""
        # A line is written to the log after the client may have read the whole response.
        self.stop()
        log = (self.folder / "access.log").read_text()
        return [int(line.split('"')[2].split()[0]) for line in log.splitlines() if name in line]
