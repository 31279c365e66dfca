"""The page of a real pod: what a real metricd writes of real traffic, in a network namespace of its own.

One round of traffic is what each peer does of each kind: so counters of a simulated pod can move in whole
rounds, and all that is true of the sums on a page stays true of them.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

POD = "10.99.0.1"
# Who is asked by all pods: the servers of DNS, and a database.
NAMESERVER, DATABASE = "10.99.3.1", "10.99.3.2"

# The application's two ports, and the servers'.
HTTP, GRPC, SERVER = 80, 81, 8000

NGINX = """
pid {dir}/{name}.pid;
error_log {dir}/{name}.log;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_timeout 1h;
    server {{
        listen {http};
        listen {grpc} http2;
        location / {{ return 200 hello; }}
        location /missing {{ return 404; }}
        location /broken {{ return 500; }}
        location /grpc/ok {{ default_type application/grpc; add_header grpc-status 0; return 200 ""; }}
        location /grpc/no {{ default_type application/grpc; add_header grpc-status 5; return 200 ""; }}
    }}
}}
"""

# Answers every query of DNS with its own bytes as an answer, and greets who connects to the database. DNS has a
# port of its own, and the database speaks first, so neither carries HTTP.
OTHERS = """
import socket, threading
dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.bind(("{nameserver}", 53))
database = socket.create_server(("{database}", 5432))
def names():
    while True:
        query, client = dns.recvfrom(512)
        dns.sendto(query[:2] + bytes([query[2] | 0x80]) + query[3:], client)
threading.Thread(target=names, daemon=True).start()
print("ready", flush=True)
while True:
    connection, _ = database.accept()
    connection.sendall(b"welcome")
    connection.recv(1)
    connection.close()
"""

# What the pod asks both.
ASK = """
import socket
dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.settimeout(5)
for kind in (1, 28):
    dns.sendto(bytes([0, kind, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]) + b"x" + bytes([0, 0, kind, 0, 1]), ("{nameserver}", 53))
    dns.recv(512)
with socket.create_connection(("{database}", 5432), 5) as connection:
    connection.recv(16)
    connection.sendall(b"x")
    connection.recv(16)
"""

# A client that calls over one connection of HTTP/2 and waits for all answers, for curl takes one for each.
CALL = """
import socket, sys
client, pod, *paths = sys.argv[1:]
frame = lambda kind, flags, stream, load: len(load).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + load
field = lambda name, value: bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
with socket.create_connection((pod, {grpc}), 5, (client, 0)) as connection:
    call = b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + frame(4, 0, 0, b"")
    for number, path in enumerate(paths):
        fields = {{":method": "POST", ":scheme": "http", ":path": path, ":authority": "pod", "content-type": "application/grpc"}}
        call += frame(1, 5, 2 * number + 1, b"".join(field(*one) for one in fields.items()))
    connection.sendall(call)
    answers = connection.makefile("rb")
    missing = len(paths)
    while missing:
        head = answers.read(9)
        answers.read(int.from_bytes(head[:3], "big"))
        missing -= head[3] in (0, 1) and head[4] & 1
"""

# Families that are on a page when something has gone wrong on the way.
BY_CHANCE = tuple(f"linkerd_ebpf_{name}" for name in (
    "tcp_retransmits_total", "requests_aborted_total", "state_lost_total", "request_durations_unknown_total"))


def client(number):
    """The address of a client, from 0 on."""
    return f"10.99.1.{number + 1}"


def server(number):
    """The address of a server that the pod asks, from 0 on."""
    return f"10.99.2.{number + 1}"


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def leave():
    """Goes on in a network namespace of its own, in which all ports are free and all of 127/8 is there."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET
        sys.exit(f"benches/fleet: make a network namespace: {os.strerror(ctypes.get_errno())}. Run it as root")
    run("ip", "link", "set", "lo", "up")


class Pod:
    """A pod with metricd and what it talks to, in two namespaces that go with it."""

    def __init__(self, bin, detail):
        self.bin, self.detail = bin, detail
        self.id = f"metricd-fleet-{os.getpid()}"
        self.pins = f"/sys/fs/bpf/{self.id}"
        self.processes = []

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="metricd-fleet-")
        os.chmod(self.folder.name, 0o755)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        for name in ("pod", "others"):
            run("ip", "netns", "add", f"{self.id}-{name}")
        run("ip", "link", "add", "eth0", "netns", f"{self.id}-pod", "type", "veth",
            "peer", "name", "eth0", "netns", f"{self.id}-others")
        for name, addresses in (("pod", [POD]), ("others", [NAMESERVER, DATABASE])):
            for address in addresses:
                run("ip", "-n", f"{self.id}-{name}", "addr", "add", f"{address}/16", "dev", "eth0")
            # Without an address of IPv6, nothing is sent for its sake.
            run("ip", "-n", f"{self.id}-{name}", "link", "set", "eth0", "addrgenmode", "none")
            for link in ("lo", "eth0"):
                run("ip", "-n", f"{self.id}-{name}", "link", "set", link, "up")
        run(self.bin / "metricd-init", "--netns", f"/run/netns/{self.id}-pod", "--pin-dir", self.pins, "--detail", self.detail)
        self.nginx("pod", HTTP, GRPC)
        self.nginx("others", SERVER, SERVER + 1)
        others = OTHERS.format(nameserver=NAMESERVER, database=DATABASE)
        ready = self.begin("others", "python3", "-c", others, stdout=subprocess.PIPE).stdout
        ready.readline()
        self.begin("pod", self.bin / "metricd", "--pin-dir", self.pins, stderr=subprocess.DEVNULL)
        self.eventually(self.page)

    def nginx(self, name, http, grpc):
        file = Path(self.folder.name, f"{name}.conf")
        file.write_text(NGINX.format(dir=self.folder.name, name=name, http=http, grpc=grpc))
        self.begin(name, "nginx", "-c", file, "-g", "daemon off;")

    def within(self, name, *command):
        # `ip netns exec` would hide the bpffs behind another /sys.
        return ["nsenter", f"--net=/run/netns/{self.id}-{name}", *[str(word) for word in command]]

    def begin(self, name, *command, **more):
        process = subprocess.Popen(self.within(name, *command), **more)
        self.processes.append(process)
        return process

    def page(self):
        return subprocess.run(self.within("pod", "curl", "-sf", "http://127.0.0.1:4191/metrics"),
                              check=True, capture_output=True, text=True).stdout

    def eventually(self, what, is_so=lambda _: True):
        last = None
        for _ in range(100):
            try:
                last = what()
                if is_so(last):
                    return last
            except subprocess.CalledProcessError as error:
                last = error
            time.sleep(0.1)
        sys.exit(f"benches/fleet: the pod that is the template is not at rest within 10 s: {str(last)[-200:]}")

    def round(self, clients, servers):
        """What each peer does once."""
        curl = ("curl", "-s", "--max-time", "10")
        several = lambda urls: [word for url in urls for word in ("-o", "/dev/null", url)]
        for number in range(clients):
            urls = [f"http://{POD}:{HTTP}{path}" for path in ["/"] * 8 + ["/missing", "/broken"]]
            run(*self.within("others", *curl, "--interface", client(number), *several(urls)))
            paths = [f"/grpc/{path}" for path in ["ok"] * 4 + ["no"]]
            run(*self.within("others", "python3", "-c", CALL.format(grpc=GRPC), client(number), POD, *paths))
        for number in range(servers):
            urls = [f"http://{server(number)}:{SERVER}{path}" for path in ["/"] * 5 + ["/broken"]]
            run(*self.within("pod", *curl, *several(urls)))
        ask = ASK.format(nameserver=NAMESERVER, database=DATABASE)
        run(*self.within("pod", "python3", "-c", ask))

    def __exit__(self, *_):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait()
        detach = [self.bin / "metricd-init", "--netns", f"/run/netns/{self.id}-pod", "--pin-dir", self.pins, "--detach"]
        subprocess.run([str(word) for word in detach], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in ("pod", "others"):
            subprocess.run(["ip", "netns", "del", f"{self.id}-{name}"], stderr=subprocess.DEVNULL)
        self.folder.cleanup()


def page(bin, detail, clients, servers):
    """What metricd writes of a pod that so many clients ask, and that asks so many servers, once all is at rest."""
    missing = [name for name in ("curl", "ip", "nginx", "nsenter", "prometheus") if not shutil.which(name)]
    missing += [str(bin / name) for name in ("metricd-init", "metricd") if not (bin / name).exists()]
    if missing:
        sys.exit(f"benches/fleet: {', '.join(missing)} can't be found: make setup-test build, or --bin FOLDER")
    # A machine that is busy may lose a packet, for which there are series more: another pod is taken then.
    for _ in range(5):
        text = page_at_rest(bin, detail, clients, servers)
        if not any(line.startswith(BY_CHANCE) for line in text.splitlines()):
            return text
    sys.exit("benches/fleet: packets were lost in five pods, one after the other: this machine is too busy")


def page_at_rest(bin, detail, clients, servers):
    with Pod(bin, detail) as pod:
        others = f"{pod.id}-others"
        for address in [client(number) for number in range(clients)] + [server(number) for number in range(servers)]:
            run("ip", "-n", others, "addr", "add", f"{address}/16", "dev", "eth0")
        pod.round(clients, servers)
        at_rest = lambda text: not any(
            line.startswith("linkerd_ebpf_connections_active{") and not line.endswith(" 0") for line in text.splitlines())
        return pod.eventually(pod.page, at_rest)
