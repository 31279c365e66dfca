"""What is asked of the pod, and who answers there."""

import socket
import time
from dataclasses import dataclass, replace

from pod import ADDRESS

KB = 1024


@dataclass(frozen=True)
class Workload:
    name: str
    protocol: str
    port: int
    connections: int
    rate: int | None  # a second, open loop; None: closed loop
    response: int  # bytes, of the body or the message
    request: int = 0
    streams: int = 1
    busy: int | None = None  # closed loop: how many of the connections at a time
    ports: int = 1  # connections are spread over so many

    @property
    def mode(self):
        return "open" if self.rate else "closed"

    def closed(self):
        return replace(self, rate=None)

    def flags(self, seconds, warm_up):
        """For bench-load."""
        targets = ",".join(f"{ADDRESS}:{self.port + n}" for n in range(self.ports))
        flags = ["run", "--protocol", self.protocol, "--target", targets]
        for name in ("connections", "streams", "request", "response", "rate", "busy"):
            if (value := getattr(self, name)) is not None:
                flags += [f"--{name}", value]
        return flags + ["--seconds", seconds, "--warm-up", warm_up]


# As in the article. Its gRPC streams are those of one channel.
HTTP = Workload("http", "http", 80, connections=10, rate=1_000, response=KB)
GRPC = Workload("grpc", "grpc", 50051, connections=1, streams=100, rate=5_000, request=4 * KB, response=4 * KB)
TCP = Workload("tcp", "tcp", 9000, connections=500, rate=10_000, request=64, response=64 * KB)
ARTICLE = (HTTP, GRPC, TCP)
ALL = tuple(w for workload in ARTICLE for w in (workload, workload.closed()))


class Server:
    """nginx for HTTP, else bench-load's. Stopped when the context ends."""

    PORTS = 4

    def __init__(self, pod, load, workload, workers=1):
        self.pod, self.load, self.workload, self.workers = pod, load, workload, workers

    def __enter__(self):
        w = self.workload
        if w.protocol == "http":
            command = ("nginx", "-c", self._nginx())
        else:
            command = [self.load, "serve", w.protocol, "--listen", f"0.0.0.0:{w.port}", "--response", w.response]
            command += ["--request", w.request] if w.protocol == "tcp" else []
        self.process = self.pod.start(*command)
        wait_for_port(self.pod, w.port)
        return self

    def __exit__(self, *_):
        self.pod.stop(self.process)

    def _nginx(self):
        tmp, first = self.pod.tmp, self.workload.port
        (tmp / "file").write_bytes(b"x" * self.workload.response)
        listen = "".join(f"listen {port} backlog=4096 reuseport; " for port in range(first, first + self.PORTS))
        config = tmp / "nginx.conf"
        config.write_text(f"""
            daemon off;
            pid {tmp}/nginx.pid;
            error_log {tmp}/error.log;
            worker_processes {self.workers};
            events {{ worker_connections 19000; }}
            http {{
                access_log off;
                keepalive_requests 1000000000;
                keepalive_timeout 1h;
                server {{ {listen} root {tmp}; }}
            }}
        """)
        return config


def wait_for_port(pod, port):
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"nobody listens on port {port} of the pod:\n{pod.log()}")
            time.sleep(0.05)
