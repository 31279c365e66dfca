"""Who counts the requests, and at what a price: each is attached, measured, detached."""

import re
import time
from contextlib import ExitStack
from pathlib import Path

from pod import ADDRESS, get, run
from workloads import ARTICLE, wait_for_port

EMPTY = """
struct __sk_buff;
__attribute__((section("tc"), used)) int empty(struct __sk_buff *skb) { return -1; }
char _license[] __attribute__((section("license"), used)) = "GPL";
"""
SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.M)


def total(metrics, name, **labels):
    """The sum of a metric's samples that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    found = (float(v) for n, have, v in SAMPLE.findall(metrics) if n == name and all(w in have for w in wanted))
    return int(sum(found))


HOOKS = ("ingress", "egress")


class Contestant:
    """Nothing attached: what the others are compared with."""

    def __init__(self, name, pod, bin):
        self.name, self.pod, self.bin = name, pod, Path(bin)
        self.process = self.metrics_url = None
        self.programs = []  # pins

    def attach(self):
        pass

    def detach(self):
        pass

    def pins(self):
        """A folder for its pins."""
        pins = self.pod.pins / self.name
        pins.mkdir(exist_ok=True)
        return pins

    def maps(self):
        """The pins of its maps."""
        return []

    def settle(self):
        """Waits until what it has seen is in its metrics."""

    def counted(self, metrics, port):
        """Requests and connections of a port, None where it can't tell."""
        return None, None

    def metrics(self):
        return get(self.metrics_url) if self.metrics_url else ""

    def stop(self):
        if self.process:
            self.pod.stop(self.process)
            self.process = None


class Empty(Contestant):
    """A program on each hook that does nothing: what the hooks cost."""

    def attach(self):
        source, object, pins = self.pod.tmp / "empty.bpf.c", self.pod.tmp / "empty.bpf.o", self.pins()
        source.write_text(EMPTY)
        run("clang", "-O2", "-g", "-target", "bpf", "-c", source, "-o", object)
        run("bpftool", "prog", "loadall", object, pins)
        self.programs = [pins / "empty"]
        # Beside the article's, which brings one.
        self.qdisc = "clsact" not in run("tc", "qdisc", "show", "dev", "eth0")
        if self.qdisc:
            run("tc", "qdisc", "add", "dev", "eth0", "clsact")
        for hook in HOOKS:
            run("tc", "filter", "add", "dev", "eth0", hook, "pref", "1", "bpf", "da", "pinned", pins / "empty")

    def detach(self):
        for hook in HOOKS:
            run("tc", "filter", "del", "dev", "eth0", hook, "pref", "1")
        if self.qdisc:
            run("tc", "qdisc", "del", "dev", "eth0", "clsact")
        unpin(self.pins())


class Metricd(Contestant):
    """metricd-init and metricd, at one of its details."""

    PORT = 4191

    def __init__(self, name, pod, bin, flags=()):
        super().__init__(name, pod, bin)
        self.flags = flags
        self.metrics_url = f"http://127.0.0.1:{self.PORT}/metrics"

    def attach(self):
        pins = self.pod.pins / "metricd"
        init = (self.bin / "metricd-init", "--pin-dir", pins, "--interface", "eth0")
        run(*init, "--detail", self.name, *self.flags)
        self.programs = [pins / "linkerd_ingress", pins / "linkerd_egress"]
        listen = f"[::]:{self.PORT}"
        # As in a pod: nobody, of the group that may read the maps.
        self.process = self.pod.start(self.bin / "metricd", "--pin-dir", pins, "--listen", listen, user=65534)
        wait_for_port(self.pod, self.PORT)

    def detach(self):
        self.stop()
        run(self.bin / "metricd-init", "--pin-dir", self.pod.pins / "metricd", "--detach")

    def maps(self):
        return sorted((self.pod.pins / "metricd").rglob("linkerd_*_map"))

    def counted(self, metrics, port):
        requests = total(metrics, "linkerd_ebpf_responses_total", dst_port=port)
        opened = total(metrics, "linkerd_ebpf_connections_opened_total", dst_port=port)
        # Of a protocol that nobody knows there are only connections.
        return requests if f'dst_port="{port}",proto="tcp",protocol=' in metrics else None, opened


class Article(Contestant):
    """A hash updated and an event sent for each packet, and their reader (benches/article)."""

    PORT = 4291

    def attach(self):
        pins = self.pins()
        reader = self.bin / "examples" / "bench-article"
        listen = f"127.0.0.1:{self.PORT}"
        self.process = self.pod.start(reader, "--interface", "eth0", "--pin-dir", pins, "--listen", listen)
        self.metrics_url = f"http://{listen}/metrics"
        wait_for_port(self.pod, self.PORT)
        self.programs = [pins / "article_ingress", pins / "article_egress"]

    def detach(self):
        self.stop()
        run("tc", "qdisc", "del", "dev", "eth0", "clsact")
        unpin(self.pins())

    def maps(self):
        return [self.pins() / "metrics", self.pins() / "events"]

    def settle(self):
        time.sleep(5.2)  # Its reader looks at the hash every five seconds.

    def counted(self, metrics, port):
        return total(metrics, "article_requests", dst_port=port), None


class HAProxy(Contestant):
    """A proxy as a sidecar, with its Prometheus exporter, that traffic is redirected to."""

    EXPORTER = 8404
    USER = 2102  # Its own connections are not redirected.
    FIRST = 4143

    def attach(self):
        config = self.pod.tmp / "haproxy.cfg"
        config.write_text(self._config())
        self.process = self.pod.start("haproxy", "-db", "-f", config, user=self.USER)
        self.metrics_url = f"http://127.0.0.1:{self.EXPORTER}/metrics"
        wait_for_port(self.pod, self.EXPORTER)
        # Inbound to the proxy; outbound, which these workloads have none of, only its own would pass.
        self._nat("-A OUTPUT -o lo -j RETURN")
        self._nat(f"-A OUTPUT -m owner --uid-owner {self.USER} -j RETURN")
        for number, workload in enumerate(ARTICLE):
            for chain in ("PREROUTING", "OUTPUT"):
                self._nat(f"-A {chain} -p tcp --dport {workload.port} -j REDIRECT --to-ports {self.FIRST + number}")

    def detach(self):
        self._nat("-F")
        self._nat("-X")  # The empty chains, too: else connections go on being tracked.
        self.stop()

    def _nat(self, rule):
        run("iptables", "-w", "-t", "nat", *rule.split())

    def _config(self):
        config = f"""
global
    nbthread 1
    maxconn 4000
defaults
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    http-reuse always
frontend exporter
    mode http
    bind 127.0.0.1:{self.EXPORTER}
    http-request use-service prometheus-exporter
"""
        for number, w in enumerate(ARTICLE):
            mode = "tcp" if w.protocol == "tcp" else "http"
            h2 = " proto h2" if w.protocol == "grpc" else ""
            config += f"""
listen {w.name}
    mode {mode}
    bind :{self.FIRST + number}{h2}
    server app {ADDRESS}:{w.port}{h2}
"""
        return config

    def counted(self, metrics, port):
        name = next(w.name for w in ARTICLE if w.port == port)
        connections = total(metrics, "haproxy_frontend_connections_total", proxy=name)
        if name == "tcp":
            return None, connections
        return total(metrics, "haproxy_frontend_http_requests_total", proxy=name), connections


def unpin(pins):
    for pin in pins.iterdir():
        pin.unlink()
    pins.rmdir()


DETAILS = ("pod", "service", "full")


def contestants(pod, bin):
    """By name, in the order of their turns. "again" is nothing once more: what the others' ratios are worth."""
    everyone = [Contestant("again", pod, bin), Empty("empty", pod, bin)]
    everyone += [Metricd(detail, pod, bin) for detail in DETAILS]
    everyone += [Article("article", pod, bin), HAProxy("haproxy", pod, bin)]
    return {contestant.name: contestant for contestant in everyone}


def attached(contestant):
    """A context in which it is attached."""
    stack = ExitStack()
    contestant.attach()
    stack.callback(contestant.detach)
    return stack
