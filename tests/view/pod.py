"""The shape of a pod: nginx, metricd-init and metricd in a network namespace, a client in another."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

NGINX = """
daemon off; master_process off; worker_processes 1; user root; pid {tmp}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp}; uwsgi_temp_path {tmp}; scgi_temp_path {tmp};
    server {{
        listen 80;
        location = / {{ return 200 "hello\\n"; }}
        location /users/ {{ return 200 "somebody\\n"; }}
        location = /fail {{ return 503; }}
        location = /cluster {{ root {tmp}; default_type text/plain; }}
        location = /slow {{ limit_rate 40k; root {tmp}; }}
    }}
}}
"""
NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set -all".split()


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, text=True, capture_output=True, **options).stdout


def eventually(is_so, what, patience=30):
    """Waits for what is to become true. Returns what it came to."""
    deadline = time.monotonic() + patience
    while not (value := is_so()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience} s: {what}")
        time.sleep(0.1)
    return value


class Pod:
    """To be used with `with`: all of it goes when that ends."""

    ADDRESS, CLIENT, OTHER_CLIENT = "10.99.0.1", "10.99.0.2", "10.99.0.3"

    def __init__(self, binaries, *init, l7=False):
        self.bin = pathlib.Path(binaries).resolve()
        self.id = f"metricd-view-{os.getpid()}"
        self.netns, self.client_netns = f"{self.id}-pod", f"{self.id}-client"
        self.pins = pathlib.Path("/sys/fs/bpf") / self.id
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix=self.id))
        self.init = init
        # Whether metricd looks for what a proxy records.
        self.l7 = ["env", f"METRICD_L7_FILE={self.tmp}/l7"] if l7 else []
        self.processes = []

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        for netns in (self.netns, self.client_netns):
            run("ip", "netns", "add", netns)
            run("ip", "-n", netns, "link", "set", "lo", "up")
        run(*f"ip link add eth0 netns {self.netns} type veth peer name eth0 netns {self.client_netns}".split())
        for netns, addresses in ((self.netns, [self.ADDRESS]), (self.client_netns, [self.CLIENT, self.OTHER_CLIENT])):
            for address in addresses:
                run("ip", "-n", netns, "addr", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", netns, "link", "set", "eth0", "up")
        run(self.bin / "metricd-init", "--netns", f"/run/netns/{self.netns}", "--pin-dir", self.pins, *self.init)
        self.tmp.chmod(0o755)
        (self.tmp / "slow").write_bytes(bytes(50000))
        (self.tmp / "nginx.conf").write_text(NGINX.format(tmp=self.tmp))
        self.start_inside("nginx", "-c", self.tmp / "nginx.conf")
        self.metricd = self.serve(self.pins, 4191)
        eventually(lambda: self.can("curl", "-fs", f"http://{self.ADDRESS}/"), "nginx answers")

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        subprocess.run([self.bin / "metricd-init", "--netns", f"/run/netns/{self.netns}", "--pin-dir", self.pins, "--detach"], capture_output=True)
        for netns in (self.netns, self.client_netns):
            subprocess.run(["ip", "netns", "del", netns], capture_output=True)
        shutil.rmtree(self.tmp)

    def inside(self, *command):
        """The words that run a command in the pod. Not by ip netns exec: that hides bpffs."""
        return ["nsenter", f"--net=/run/netns/{self.netns}", *(str(word) for word in command)]

    def start_inside(self, *command):
        with open(self.tmp / "log", "a") as log:
            self.processes.append(subprocess.Popen(self.inside(*command), stdout=log, stderr=log))
        return self.processes[-1]

    def can(self, *command):
        return subprocess.run(self.inside(*command), capture_output=True).returncode == 0

    def serve(self, pins, port):
        """A sidecar, with a sidecar's rights."""
        process = self.start_inside(*NOBODY, *self.l7, self.bin / "metricd", "--pin-dir", pins, "--listen", f"[::]:{port}")
        eventually(lambda: self.can("curl", "-fs", f"localhost:{port}/live"), "metricd answers")
        return process

    def ask(self, path, times=1, source=CLIENT):
        """Requests of the client, each on a connection of its own."""
        for _ in range(times):
            run("nsenter", f"--net=/run/netns/{self.client_netns}", "curl", "-s", "-o", "/dev/null", "--interface", source, f"http://{self.ADDRESS}{path}")

    def metrics(self):
        return run(*self.inside("curl", "-s", "localhost:4191/metrics"))

    def sum(self, name, **labels):
        """Of the samples of a metric that have these labels."""
        total = 0
        for line in self.metrics().splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name and all(f'{label}="{value}"' in (match[2] or "") for label, value in labels.items()):
                total += float(match[3])
        return total

    def cli(self, *args):
        return run(*self.inside(self.bin / "linkerd-metricd", *args))

    def stat(self):
        return json.loads(self.cli("stat", "--total", "--output", "json"))
