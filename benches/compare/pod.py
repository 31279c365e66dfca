"""The pod: its network namespace, which this process enters, and a client's, a veth pair between them.

All that is in the pod runs on one CPU, the client on another.
"""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from pathlib import Path

POD_CPU, CLIENT_CPU = "0", "1"
ADDRESS, CLIENT_ADDRESS = "10.97.0.1", "10.97.0.2"
BPFFS = Path("/sys/fs/bpf")
CLONE_NEWNET = 0x40000000


def run(*command, **kwargs):
    """Runs a command that must succeed, and returns what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def stopped(*_):
    raise SystemExit("stopped: the same command goes on from here")


class Pod:
    """Use as a context; on every path it leaves nothing behind but this process' namespace."""

    def __enter__(self):
        self.id = f"metricd-bench-{os.getpid()}"
        self.tmp = Path(tempfile.mkdtemp(prefix=f"{self.id}-"))
        self.tmp.chmod(0o755)
        self.pins = BPFFS / self.id
        self.pins.mkdir()
        self.processes = []
        self.cpus = POD_CPU
        for stop in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stop, stopped)
        try:
            self._network()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _network(self):
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        for name in ("pod", "client"):
            run("ip", "netns", "add", f"{self.id}-{name}")
        run(*f"ip link add eth0 netns {self.id}-pod type veth peer name eth0 netns {self.id}-client".split())
        for name, address in (("pod", ADDRESS), ("client", CLIENT_ADDRESS)):
            ip = ("ip", "-n", f"{self.id}-{name}")
            run(*ip, "addr", "add", f"{address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                run(*ip, "link", "set", link, "up")
        # Ports for 50,000 connections to each of the server's.
        self.client_run("sysctl", "-qw", "net.ipv4.ip_local_port_range=10000 65000")
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.id}-pod") as netns:
            if libc.setns(netns.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "enter the pod's network namespace")
        run("sysctl", "-qw", "net.core.somaxconn=4096", "net.ipv4.tcp_max_syn_backlog=4096")

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
        for name in ("pod", "client"):
            subprocess.run(("ip", "netns", "del", f"{self.id}-{name}"), stderr=subprocess.DEVNULL)
        shutil.rmtree(self.pins, ignore_errors=True)
        shutil.rmtree(self.tmp, ignore_errors=True)

    def client_run(self, *command):
        return run("nsenter", f"--net=/run/netns/{self.id}-client", *command)

    def start(self, *command, user=None):
        """A process in the pod, which ends with this one at the latest."""
        as_user = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups") if user else ()
        return self._popen("taskset", "-c", self.cpus, *as_user, *map(str, command))

    def start_client(self, *command, cpus=CLIENT_CPU):
        command = ("nsenter", f"--net=/run/netns/{self.id}-client", "taskset", "-c", cpus, *map(str, command))
        return self._popen(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _popen(self, *command, **kwargs):
        log = open(self.tmp / "log", "a")
        process = subprocess.Popen(command, stderr=log, text=True, **{"stdout": log, **kwargs})
        self.processes.append(process)
        return process

    def stop(self, process):
        process.terminate()
        process.wait()
        self.processes.remove(process)

    def log(self):
        return (self.tmp / "log").read_text()[-2000:]


def get(url):
    with urllib.request.urlopen(url, timeout=60) as response:
        return response.read().decode()
